-- With whom each territory is compared: a fixed list, from characteristics of 2016 at the latest (R-SEL).
select
    territoire_niveau, territoire_code, comparable_code, cast(rang as {{ dbt.type_int() }}) as rang, cast(distance as {{ type_double() }}) as distance
from {{ ref('int_comparable') }}

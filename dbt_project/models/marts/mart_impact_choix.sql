-- The same effect under other reasonable choices declared beforehand: its range says how much it rests on them.
select
    estimation_id, choix, cast(effet as {{ type_double() }}) as effet, cast(bas as {{ type_double() }}) as bas,
    cast(haut as {{ type_double() }}) as haut
from {{ ref('int_impact_choix') }}

-- Segments of a series between two declared breaks: values of two segments are never compared.
with rupture as (
    select distinct indicateur.indicateur_id, ruptures.date_debut
    from {{ source('catalogue', 'ruptures') }} as ruptures
    inner join {{ ref('int_indicateur') }} as indicateur
        on ruptures.mesure in (indicateur.calcul_numerateur, indicateur.calcul_denominateur)
    where ruptures._actuelle
),

bornes as (
    select indicateur_id, date_debut from rupture
    union
    select distinct indicateur_id, cast('1900-01-01' as date) from rupture
)

select
    indicateur_id,
    date_debut,
    lead(date_debut) over (partition by indicateur_id order by date_debut) as date_fin,
    cast(row_number() over (partition by indicateur_id order by date_debut) as {{ dbt.type_int() }}) as serie
from bornes

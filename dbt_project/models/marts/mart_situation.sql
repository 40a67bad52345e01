-- Where each territory stands among comparable ones: its last value, theirs at the same period, its rank, and what both did
-- since. A comparison, never an effect.
with comparees as (
    select
        liens.numero,
        count(*) as comparables,
        {{ quartiles('pair.valeur') }} as quartiles,
        percentile_cont(0.5) within group (order by pair.evolution) as evolution_mediane_comparables,
        1 + sum(case when pair.valeur > places.valeur then 1 else 0 end) as rang_decroissant
    from {{ ref('int_place_comparable') }} as liens
    inner join {{ ref('int_place') }} as places on places.numero = liens.numero
    inner join {{ ref('int_place') }} as pair on pair.numero = liens.comparable_numero
    group by liens.numero
)

select
    places.indicateur_id, places.territoire_niveau, places.territoire_code, {{ var('cog_pivot') }} as cog_annee,
    places.periode_debut, places.periode_fin, places.valeur, places.periode_initiale, places.valeur_initiale, places.evolution,
    cast(coalesce(comparees.comparables, 0) as {{ dbt.type_int() }}) as comparables,
    cast(case when comparees.comparables >= 5 then {{ quartile('comparees.quartiles', 2) }} end as {{ type_double() }}) as mediane_comparables,
    cast(case when comparees.comparables >= 5 then {{ quartile('comparees.quartiles', 1) }} end as {{ type_double() }}) as quartile_bas_comparables,
    cast(case when comparees.comparables >= 5 then {{ quartile('comparees.quartiles', 3) }} end as {{ type_double() }}) as quartile_haut_comparables,
    cast(case when comparees.comparables >= 5 then comparees.evolution_mediane_comparables end as {{ type_double() }}) as evolution_mediane_comparables,
    cast(case when comparees.comparables >= 5 then comparees.rang_decroissant end as {{ dbt.type_int() }}) as rang,
    case
        when comparees.comparables >= 5 then null
        when comparees.comparables is null then 'pas de liste de territoires comparables (population ou revenu d''avant inconnus)'
        else 'moins de cinq territoires comparables ont une valeur à cette période'
    end as motif,
    places.source_id, places.mention
from {{ ref('int_place') }} as places
left join comparees on comparees.numero = places.numero

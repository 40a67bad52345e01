-- Where each territory stands among comparable ones: its last value, theirs at the same period, its rank, and what both
-- did since the eve of the interventions (the last period of the reference year at the latest, else the first of the same
-- series). A comparison, never an effect.
with observations as (
    select indicateur_id, territoire_niveau, territoire_code, periode_debut, periode_fin, valeur, serie, source_id
    from {{ ref('fct_observation') }}
    where est_derniere_version and valeur is not null and territoire_niveau in ('commune', 'epci', 'departement')
),

-- The last period that most territories have: a few early values would leave each territory without comparison.
periodes as (
    select
        indicateur_id, territoire_niveau, periode_debut, periode_fin, serie, count(*) as territoires,
        max(count(*)) over (partition by indicateur_id, territoire_niveau) as maximum
    from observations
    group by indicateur_id, territoire_niveau, periode_debut, periode_fin, serie
),

dernieres as (
    select
        indicateur_id, territoire_niveau, periode_debut, periode_fin, serie,
        row_number() over (partition by indicateur_id, territoire_niveau order by periode_debut desc, periode_fin desc) as rang
    from periodes
    where territoires >= 0.5 * maximum
),

premieres as (
    select
        periodes.indicateur_id, periodes.territoire_niveau, periodes.periode_debut, periodes.periode_fin,
        row_number() over (
            partition by periodes.indicateur_id, periodes.territoire_niveau
            order by
                case when extract(year from periodes.periode_fin) <= {{ var('annee_reference') }} then 0 else 1 end,
                case when extract(year from periodes.periode_fin) <= {{ var('annee_reference') }} then periodes.periode_fin end desc,
                periodes.periode_debut, periodes.periode_fin
        ) as rang
    from periodes
    inner join dernieres
        on dernieres.indicateur_id = periodes.indicateur_id and dernieres.territoire_niveau = periodes.territoire_niveau
        and dernieres.rang = 1 and dernieres.serie = periodes.serie
    where periodes.territoires >= 0.5 * periodes.maximum
),

actuelles as (
    select observations.*
    from observations
    inner join dernieres
        on dernieres.indicateur_id = observations.indicateur_id and dernieres.territoire_niveau = observations.territoire_niveau
        and dernieres.periode_debut = observations.periode_debut and dernieres.periode_fin = observations.periode_fin
        and dernieres.rang = 1
),

initiales as (
    select observations.*
    from observations
    inner join premieres
        on premieres.indicateur_id = observations.indicateur_id and premieres.territoire_niveau = observations.territoire_niveau
        and premieres.periode_debut = observations.periode_debut and premieres.periode_fin = observations.periode_fin
        and premieres.rang = 1
),

places as (
    select
        actuelles.*,
        initiales.valeur as valeur_initiale, initiales.periode_debut as periode_initiale,
        case when initiales.periode_debut < actuelles.periode_debut then actuelles.valeur - initiales.valeur end as evolution
    from actuelles
    left join initiales
        on initiales.indicateur_id = actuelles.indicateur_id and initiales.territoire_niveau = actuelles.territoire_niveau
        and initiales.territoire_code = actuelles.territoire_code
),

comparees as (
    select
        places.indicateur_id, places.territoire_niveau, places.territoire_code,
        count(*) as comparables,
        percentile_cont(0.25) within group (order by pair.valeur) as quartile_bas_comparables,
        percentile_cont(0.5) within group (order by pair.valeur) as mediane_comparables,
        percentile_cont(0.75) within group (order by pair.valeur) as quartile_haut_comparables,
        percentile_cont(0.5) within group (order by pair.evolution) as evolution_mediane_comparables,
        1 + sum(case when pair.valeur > places.valeur then 1 else 0 end) as rang_decroissant
    from places
    inner join {{ ref('int_comparable') }} as lien
        on lien.territoire_niveau = places.territoire_niveau and lien.territoire_code = places.territoire_code
    inner join places as pair
        on pair.indicateur_id = places.indicateur_id and pair.territoire_niveau = places.territoire_niveau
        and pair.territoire_code = lien.comparable_code
    group by places.indicateur_id, places.territoire_niveau, places.territoire_code
)

select
    places.indicateur_id, places.territoire_niveau, places.territoire_code, {{ var('cog_pivot') }} as cog_annee,
    places.periode_debut, places.periode_fin, places.valeur, places.periode_initiale, places.valeur_initiale, places.evolution,
    cast(coalesce(comparees.comparables, 0) as {{ dbt.type_int() }}) as comparables,
    cast(case when comparees.comparables >= 5 then comparees.mediane_comparables end as {{ type_double() }}) as mediane_comparables,
    cast(case when comparees.comparables >= 5 then comparees.quartile_bas_comparables end as {{ type_double() }}) as quartile_bas_comparables,
    cast(case when comparees.comparables >= 5 then comparees.quartile_haut_comparables end as {{ type_double() }}) as quartile_haut_comparables,
    cast(case when comparees.comparables >= 5 then comparees.evolution_mediane_comparables end as {{ type_double() }}) as evolution_mediane_comparables,
    cast(case when comparees.comparables >= 5 then comparees.rang_decroissant end as {{ dbt.type_int() }}) as rang,
    case
        when comparees.comparables >= 5 then null
        when comparees.comparables is null then 'pas de liste de territoires comparables (population ou revenu d''avant inconnus)'
        else 'moins de cinq territoires comparables ont une valeur à cette période'
    end as motif,
    places.source_id
from places
left join comparees
    on comparees.indicateur_id = places.indicateur_id and comparees.territoire_niveau = places.territoire_niveau
    and comparees.territoire_code = places.territoire_code

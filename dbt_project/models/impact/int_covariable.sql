-- What each unit was like before the treatment: the last value known at the reference year of the plan at the latest.
-- Weights are that population too, never the present one (R-AGR). A category is the one of the COG: it hardly moves.
with plans as (
    select estimation_id, indicateur_id, unite, reference from {{ ref('int_estimation') }}
),

valeurs as (
    select
        territoire_niveau, territoire_code, indicateur_id, cast(extract(year from periode_debut) as {{ dbt.type_int() }}) as annee, {{ moyenne_exacte('valeur') }} as valeur
    from {{ ref('fct_observation') }}
    where indicateur_id in ('population_municipale', 'revenu_median', 'dvf_prix_m2')
      and est_derniere_version and valeur > 0
    group by territoire_niveau, territoire_code, indicateur_id, extract(year from periode_debut)
),

avant as (
    select
        plans.estimation_id, valeurs.territoire_code as unite_code, valeurs.indicateur_id, valeurs.valeur,
        row_number() over (
            partition by plans.estimation_id, valeurs.territoire_code, valeurs.indicateur_id order by valeurs.annee desc
        ) as rang
    from plans
    inner join valeurs on valeurs.territoire_niveau = plans.unite and valeurs.annee <= plans.reference
)

select
    plans.estimation_id,
    territoire.territoire_code as unite_code,
    territoire.departement_code,
    territoire.region_code,
    territoire.epci_code,
    population.valeur as population,
    ln(population.valeur) as log_population,
    ln(revenu.valeur) as log_revenu,
    ln(prix.valeur) as log_prix,
    zonage.aav_categorie
from plans
inner join {{ ref('dim_territoire') }} as territoire
    on territoire.territoire_niveau = plans.unite and territoire.est_pivot
left join avant as population
    on population.estimation_id = plans.estimation_id and population.unite_code = territoire.territoire_code
    and population.indicateur_id = 'population_municipale' and population.rang = 1
left join avant as revenu
    on revenu.estimation_id = plans.estimation_id and revenu.unite_code = territoire.territoire_code
    and revenu.indicateur_id = 'revenu_median' and revenu.rang = 1
left join avant as prix
    on prix.estimation_id = plans.estimation_id and prix.unite_code = territoire.territoire_code
    and prix.indicateur_id = 'dvf_prix_m2' and prix.rang = 1
left join {{ source('insee', 'zonages') }} as zonage
    on plans.unite = 'commune' and zonage._actuelle and zonage.commune_code = territoire.territoire_code

-- What each unit was like before the treatment: the last value known at the reference year of the plan at the latest.
-- Weights are that population too, never the present one (R-AGR). A category is the one of the COG: it hardly moves.
-- A covariate that is the outcome itself is taken at the first year of the panel: the effect is counted from the reference
-- year, and to adjust on what it is counted from would take a return to the mean for an effect (R-SEL).
with plans as (
    select estimation_id, indicateur_id, unite, reference, premiere_annee from {{ ref('int_estimation') }}
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
        plans.estimation_id, valeurs.territoire_code as unite_code, valeurs.indicateur_id, valeurs.valeur, valeurs.annee,
        case when valeurs.indicateur_id = plans.indicateur_id then plans.premiere_annee else plans.reference end as limite
    from plans
    inner join valeurs on valeurs.territoire_niveau = plans.unite and valeurs.annee <= plans.reference
),

rangs as (
    select
        avant.*,
        row_number() over (partition by estimation_id, unite_code, indicateur_id order by annee desc) as rang,
        row_number() over (
            partition by estimation_id, unite_code, indicateur_id
            order by case when annee <= limite then 0 else 1 end, annee desc
        ) as rang_covariable
    from avant
)

select
    plans.estimation_id,
    territoire.territoire_code as unite_code,
    territoire.departement_code,
    territoire.region_code,
    territoire.epci_code,
    poids.valeur as population,
    ln(population.valeur) as log_population,
    ln(revenu.valeur) as log_revenu,
    ln(prix.valeur) as log_prix,
    zonage.aav_categorie
from plans
inner join {{ ref('dim_territoire') }} as territoire
    on territoire.territoire_niveau = plans.unite and territoire.est_pivot
left join rangs as poids
    on poids.estimation_id = plans.estimation_id and poids.unite_code = territoire.territoire_code
    and poids.indicateur_id = 'population_municipale' and poids.rang = 1
left join rangs as population
    on population.estimation_id = plans.estimation_id and population.unite_code = territoire.territoire_code
    and population.indicateur_id = 'population_municipale' and population.rang_covariable = 1
    and population.annee <= population.limite
left join rangs as revenu
    on revenu.estimation_id = plans.estimation_id and revenu.unite_code = territoire.territoire_code
    and revenu.indicateur_id = 'revenu_median' and revenu.rang_covariable = 1 and revenu.annee <= revenu.limite
left join rangs as prix
    on prix.estimation_id = plans.estimation_id and prix.unite_code = territoire.territoire_code
    and prix.indicateur_id = 'dvf_prix_m2' and prix.rang_covariable = 1 and prix.annee <= prix.limite
left join {{ source('insee', 'zonages') }} as zonage
    on plans.unite = 'commune' and zonage._actuelle and zonage.commune_code = territoire.territoire_code

-- Units of each plan that the intervention reaches, with the share of their population that it covers and since when.
with plans as (
    select * from {{ ref('int_estimation') }}
),

population as (
    select territoire_code as commune_code, cast(coalesce(population, 0) as {{ type_double() }}) as population
    from {{ ref('dim_territoire') }}
    where territoire_niveau = 'commune' and est_pivot
),

-- A commune is a unit of its own and the only member of itself.
membres as (
    select 'commune' as unite, commune_code, commune_code as unite_code from population
    union all
    select lien.parent_niveau, lien.membre_code, lien.parent_code
    from {{ ref('int_appartenance') }} as lien
    where lien.membre_niveau = 'commune' and lien.parent_niveau in ('epci', 'zone_emploi', 'departement')
),

unites as (
    select membres.unite, membres.unite_code, sum(population.population) as population
    from membres
    inner join population on population.commune_code = membres.commune_code
    group by membres.unite, membres.unite_code
)

select
    plans.estimation_id,
    membres.unite_code,
    case when max(unites.population) > 0 then sum(population.population) / max(unites.population) else 1 end as part_traitee,
    min(par_commune.date_debut) as date_debut,
    max(par_commune.date_fin) as date_fin,
    max(par_commune.une_sans_date) as une_sans_date
from plans
inner join {{ ref('int_commune_traitee') }} as par_commune on par_commune.intervention_id = plans.intervention_id
inner join membres on membres.unite = plans.unite and membres.commune_code = par_commune.commune_code
inner join population on population.commune_code = membres.commune_code
inner join unites on unites.unite = membres.unite and unites.unite_code = membres.unite_code
group by plans.estimation_id, membres.unite_code

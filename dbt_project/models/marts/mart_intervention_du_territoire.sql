-- Who acts in each région, département, EPCI and commune: communes reached, share of its population, since when.
with communes as (
    select
        commune.territoire_code as commune_code, cast(coalesce(commune.population, 0) as {{ dbt.type_bigint() }}) as population,
        lien.parent_niveau as territoire_niveau, lien.parent_code as territoire_code
    from {{ ref('dim_territoire') }} as commune
    inner join {{ ref('int_appartenance') }} as lien
        on lien.membre_niveau = 'commune' and lien.membre_code = commune.territoire_code
        and lien.parent_niveau in ('epci', 'departement', 'region')
    where commune.territoire_niveau = 'commune' and commune.est_pivot
    union all
    select territoire_code, cast(coalesce(population, 0) as {{ dbt.type_bigint() }}), 'commune', territoire_code
    from {{ ref('dim_territoire') }}
    where territoire_niveau = 'commune' and est_pivot
),

totaux as (
    select territoire_niveau, territoire_code, count(*) as communes, sum(population) as population
    from communes
    group by territoire_niveau, territoire_code
)

select
    communes.territoire_niveau, communes.territoire_code, traitee.intervention_id, max(intervention.intervention_nom) as intervention_nom,
    cast(count(*) as {{ dbt.type_int() }}) as communes,
    cast(sum(communes.population) as {{ dbt.type_bigint() }}) as population,
    cast(100.0 * count(*) / max(totaux.communes) as {{ type_double() }}) as part_communes,
    cast(case when max(totaux.population) > 0 then 100.0 * sum(communes.population) / max(totaux.population) end as {{ type_double() }}) as part_population,
    min(traitee.date_debut) as premiere_date
from communes
inner join {{ ref('int_commune_traitee') }} as traitee on traitee.commune_code = communes.commune_code and traitee.date_fin is null
inner join totaux on totaux.territoire_niveau = communes.territoire_niveau and totaux.territoire_code = communes.territoire_code
inner join {{ ref('dim_intervention') }} as intervention on intervention.intervention_id = traitee.intervention_id
group by communes.territoire_niveau, communes.territoire_code, traitee.intervention_id

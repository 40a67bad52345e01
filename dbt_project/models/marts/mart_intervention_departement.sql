-- Where each intervention acts, département by département: communes reached and what share of the population lives there.
with communes as (
    select
        territoire_code as commune_code, departement_code, cast(coalesce(population, 0) as {{ dbt.type_bigint() }}) as population
    from {{ ref('dim_territoire') }}
    where territoire_niveau = 'commune' and est_pivot and departement_code in (select departement_code from {{ ref('int_departement') }})
),

totaux as (
    select departement_code, count(*) as communes, sum(population) as population from communes group by departement_code
),

presence as (
    select
        traitee.intervention_id, communes.departement_code, count(*) as communes, sum(communes.population) as population,
        min(traitee.date_debut) as premiere_date
    from {{ ref('int_commune_traitee') }} as traitee
    inner join communes on communes.commune_code = traitee.commune_code
    where traitee.date_fin is null
    group by traitee.intervention_id, communes.departement_code
)

select
    presence.intervention_id, presence.departement_code,
    cast(presence.communes as {{ dbt.type_int() }}) as communes,
    cast(presence.population as {{ dbt.type_bigint() }}) as population,
    cast(100.0 * presence.communes / totaux.communes as {{ type_double() }}) as part_communes,
    cast(case when totaux.population > 0 then 100.0 * presence.population / totaux.population end as {{ type_double() }}) as part_population,
    presence.premiere_date
from presence
inner join totaux on totaux.departement_code = presence.departement_code

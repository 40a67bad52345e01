-- Which programmes meet on the same communes, two by two (R-SUP): an effect found for one is that of a mix.
with traitees as (
    select
        traitee.intervention_id, traitee.commune_code, cast(extract(year from traitee.date_debut) as {{ dbt.type_int() }}) as annee,
        cast(coalesce(commune.population, 0) as {{ dbt.type_bigint() }}) as population, traitee.mention
    from {{ ref('int_commune_traitee') }} as traitee
    inner join {{ ref('dim_territoire') }} as commune
        on commune.territoire_niveau = 'commune' and commune.est_pivot and commune.territoire_code = traitee.commune_code
),

totaux as (
    select intervention_id, count(*) as communes, sum(population) as population from traitees group by intervention_id
),

paires as (
    select
        une.intervention_id, autre.intervention_id as autre_intervention_id,
        count(*) as communes,
        sum(une.population) as population,
        sum(case when abs(une.annee - autre.annee) <= 2 then 1 else 0 end) as communes_deux_ans,
        max(coalesce(une.mention, autre.mention)) as mention
    from traitees as une
    inner join traitees as autre
        on autre.commune_code = une.commune_code and autre.intervention_id <> une.intervention_id
    group by une.intervention_id, autre.intervention_id
)

select
    paires.intervention_id, paires.autre_intervention_id,
    cast(paires.communes as {{ dbt.type_int() }}) as communes,
    cast(paires.population as {{ dbt.type_bigint() }}) as population,
    cast(paires.communes_deux_ans as {{ dbt.type_int() }}) as communes_deux_ans,
    cast(100.0 * paires.communes / totaux.communes as {{ type_double() }}) as part_communes,
    cast(case when totaux.population > 0 then 100.0 * paires.population / totaux.population end as {{ type_double() }}) as part_population,
    paires.mention
from paires
inner join totaux on totaux.intervention_id = paires.intervention_id

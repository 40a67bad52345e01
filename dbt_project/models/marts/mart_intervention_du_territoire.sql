-- Who acts in each région, département, EPCI and commune: communes reached, share of its population, since when; and what
-- is known there of the promise of the roadmap (a measurable impact on public policy and on daily life). An effect is
-- looked for over the whole intervention, never in one place.
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
),

presentes as (
    select
        communes.territoire_niveau, communes.territoire_code, traitee.intervention_id,
        count(*) as communes, sum(communes.population) as population, min(traitee.date_debut) as premiere_date,
        max(traitee.mention) as mention
    from communes
    inner join {{ ref('int_commune_traitee') }} as traitee on traitee.commune_code = communes.commune_code and traitee.date_fin is null
    group by communes.territoire_niveau, communes.territoire_code, traitee.intervention_id
),

connues as (
    select territoire_niveau, territoire_code, indicateur_id, max(periode_fin) as periode_fin, max(connue_le) as connue_le, max(mention) as mention
    from {{ ref('fct_observation') }}
    where valeur is not null and est_derniere_version and territoire_niveau in ('region', 'departement', 'epci', 'commune')
    group by territoire_niveau, territoire_code, indicateur_id
),

mesures as (
    select
        presentes.territoire_niveau, presentes.territoire_code, presentes.intervention_id,
        sum(case when pont.portee = 'politique_publique' then 1 else 0 end) as politique_publique,
        sum(case when pont.portee = 'vie_quotidienne' then 1 else 0 end) as vie_quotidienne,
        max(connues.periode_fin) as derniere_periode, max(connues.connue_le) as connue_le,
        max(connues.mention) as mention
    from presentes
    inner join {{ ref('bridge_intervention_indicateur') }} as pont on pont.intervention_id = presentes.intervention_id
    inner join connues
        on connues.indicateur_id = pont.indicateur_id and connues.territoire_niveau = presentes.territoire_niveau
        and connues.territoire_code = presentes.territoire_code
    group by presentes.territoire_niveau, presentes.territoire_code, presentes.intervention_id
)

select
    presentes.territoire_niveau, presentes.territoire_code, presentes.intervention_id, tableau.intervention_nom,
    cast(presentes.communes as {{ dbt.type_int() }}) as communes,
    cast(presentes.population as {{ dbt.type_bigint() }}) as population,
    cast(100.0 * presentes.communes / totaux.communes as {{ type_double() }}) as part_communes,
    cast(case when totaux.population > 0 then 100.0 * presentes.population / totaux.population end as {{ type_double() }}) as part_population,
    presentes.premiere_date,
    cast(coalesce(mesures.politique_publique, 0) as {{ dbt.type_int() }}) as mesures_politique_publique,
    cast(coalesce(mesures.vie_quotidienne, 0) as {{ dbt.type_int() }}) as mesures_vie_quotidienne,
    mesures.derniere_periode,
    mesures.connue_le,
    case
        when coalesce(mesures.politique_publique, 0) = 0 or coalesce(mesures.vie_quotidienne, 0) = 0 then 'non mesurée'
        when tableau.etat_impact = 'positif' then 'effet favorable établi'
        when tableau.etat_impact = 'négatif' then 'effet défavorable établi'
        else 'mesurée, effet non établi'
    end as etat_promesse,
    coalesce(presentes.mention, mesures.mention) as mention
from presentes
inner join totaux on totaux.territoire_niveau = presentes.territoire_niveau and totaux.territoire_code = presentes.territoire_code
inner join {{ ref('mart_tableau_de_bord') }} as tableau on tableau.intervention_id = presentes.intervention_id
left join mesures
    on mesures.territoire_niveau = presentes.territoire_niveau and mesures.territoire_code = presentes.territoire_code
    and mesures.intervention_id = presentes.intervention_id

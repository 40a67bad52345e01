-- One row per intervention: the three answers, never mixed, each with a sentence written from its numbers by rule, and
-- whether the promise of the roadmap (a measurable impact on public policy and on daily life) is kept.
{% set entier = dbt.type_int() %}
{% set texte = dbt.type_string() %}
with interventions as (
    select intervention_id, intervention_nom, forme, section from {{ ref('dim_intervention') }}
),

liens as (
    select pont.intervention_id, pont.indicateur_id, pont.portee, pont.est_englobant, indicateur.libelle, indicateur.type, indicateur.methode_contrefactuel
    from {{ ref('bridge_intervention_indicateur') }} as pont
    inner join {{ ref('dim_indicateur') }} as indicateur on indicateur.indicateur_id = pont.indicateur_id
),

-- Progress is told at the widest level that has a rate: rates are never averaged (R-AGR). Targets that the délégués set in
-- internal records stay in mart_avancement: a count of those reached would tell what secrecy hides.
avancements as (
    select
        liens.intervention_id, avancement.indicateur_id, avancement.territoire_niveau, avancement.taux_avancement,
        case avancement.territoire_niveau when 'national' then 1 when 'region' then 2 when 'departement' then 3 when 'perimetre' then 4 else 5 end as rang
    from liens
    inner join {{ ref('mart_avancement') }} as avancement on avancement.indicateur_id = liens.indicateur_id
    where avancement.taux_avancement is not null and avancement.source_id <> 'interne__objectif'
),

plus_larges as (
    select intervention_id, indicateur_id, min(rang) as rang from avancements group by intervention_id, indicateur_id
),

progres as (
    select
        avancements.intervention_id,
        count(distinct avancements.indicateur_id) as indicateurs,
        count(*) as mesures,
        sum(case when avancements.taux_avancement >= 100 then 1 else 0 end) as atteintes,
        sum(case when avancements.taux_avancement < 0 then 1 else 0 end) as reculs,
        max(avancements.rang) as rang_max
    from avancements
    inner join plus_larges
        on plus_larges.intervention_id = avancements.intervention_id and plus_larges.indicateur_id = avancements.indicateur_id
        and plus_larges.rang = avancements.rang
    group by avancements.intervention_id
),

-- The situation is told on what inhabitants live, on an outcome before a means, at the level with most places of the
-- intervention. Where an intervention works says nothing of how its places fare: public policy is left out.
situations as (
    select
        situation.*, liens.libelle,
        row_number() over (
            partition by situation.intervention_id
            order by case when liens.type in ('impact', 'resultat') then 0 else 1 end, situation.territoires desc, situation.indicateur_id, situation.territoire_niveau
        ) as rang
    from {{ ref('mart_situation_intervention') }} as situation
    inner join liens on liens.intervention_id = situation.intervention_id and liens.indicateur_id = situation.indicateur_id
    where situation.part_favorable is not null and liens.portee = 'vie_quotidienne'
),

plans as (
    select
        impact.*,
        row_number() over (
            partition by impact.intervention_id order by case when impact.rang = 'primaire' then 0 else 1 end, impact.estimation_id
        ) as ordre,
        count(*) over (partition by impact.intervention_id) as plans
    from {{ ref('mart_impact') }} as impact
),

traites as (
    select intervention_id, count(*) as territoires, count(date_debut) as dates
    from {{ ref('fct_intervention_territoire') }}
    group by intervention_id
),

causaux as (
    select
        liens.intervention_id,
        sum(case when liens.methode_contrefactuel not in ('aucune', 'comparaison_descriptive') then 1 else 0 end) as avec_methode,
        sum(case when liens.methode_contrefactuel not in ('aucune', 'comparaison_descriptive') and valeurs.indicateur_id is not null then 1 else 0 end) as avec_valeurs
    from liens
    left join (
        select distinct indicateur_id from {{ ref('fct_observation') }} where valeur is not null
    ) as valeurs on valeurs.indicateur_id = liens.indicateur_id
    where not liens.est_englobant
    group by liens.intervention_id
),

fraicheurs as (
    select liens.intervention_id, count(distinct fraicheur.source_id) as sources, count(distinct case when fraicheur.statut = 'en retard' then fraicheur.source_id end) as en_retard
    from liens
    inner join (select distinct indicateur_id, source_id from {{ ref('fct_observation') }}) as origine on origine.indicateur_id = liens.indicateur_id
    inner join {{ ref('mart_fraicheur') }} as fraicheur on fraicheur.source_id = origine.source_id
    group by liens.intervention_id
)

select
    interventions.intervention_id, interventions.intervention_nom, interventions.forme, interventions.section,
    case
        when progres.mesures is null then 'sans cible'
        when progres.reculs > 0 then 'en recul'
        when progres.atteintes = progres.mesures then 'cible atteinte'
        else 'en cours'
    end as etat_avancement,
    case
        when progres.mesures is null then 'aucun indicateur n''a de cible et de valeurs qui permettent un taux'
        else cast(progres.indicateurs as {{ texte }}) || case when progres.indicateurs > 1 then ' indicateurs suivis' else ' indicateur suivi' end
            || ' contre une cible ; ' || cast(progres.atteintes as {{ texte }})
            || case when progres.atteintes > 1 then ' cibles atteintes' else ' cible atteinte' end || ' sur ' || cast(progres.mesures as {{ texte }})
            || case when progres.reculs > 0 then ', ' || cast(progres.reculs as {{ texte }}) || ' en recul' else '' end
    end as phrase_avancement,
    case
        when situations.intervention_id is null then 'non comparée'
        when situations.part_favorable >= 60 then 'mieux placés'
        when situations.part_favorable <= 40 then 'moins bien placés'
        else 'comme leurs comparables'
    end as etat_situation,
    case
        when situations.intervention_id is null then 'aucun indicateur orienté n''a de valeurs chez les territoires de l''intervention et leurs comparables'
        else situations.libelle || ' : ' || cast(cast(round(situations.part_favorable) as {{ entier }}) as {{ texte }}) || ' % des '
            || cast(situations.territoires as {{ texte }}) || case situations.territoire_niveau
                when 'commune' then ' communes' when 'epci' then ' intercommunalités' when 'departement' then ' départements' else ' territoires'
            end || ' de l''intervention font mieux que la médiane de leurs comparables'
            || coalesce(', ' || cast(cast(round(situations.part_evolution_favorable) as {{ entier }}) as {{ texte }}) || ' % évoluent mieux qu''eux depuis fin 2017', '')
    end as phrase_situation,
    case when plans.estimation_id is null then 'non estimable' else plans.statut end as etat_impact,
    case
        when couverture.observes_politique_publique = 0 or couverture.observes_vie_quotidienne = 0 then 'non mesurée'
        when plans.statut = 'positif' then 'effet favorable établi'
        when plans.statut = 'négatif' then 'effet défavorable établi'
        else 'mesurée, effet non établi'
    end as etat_promesse,
    case
        when plans.estimation_id is not null then plans.phrase
        when coalesce(traites.territoires, 0) = 0 then 'non estimable : aucun territoire traité n''est connu'
        when traites.dates = 0 then 'non estimable : aucune date de début n''est connue'
        when coalesce(causaux.avec_methode, 0) = 0 then 'non estimable : aucun indicateur au niveau d''action ne se prête à une comparaison causale'
        when causaux.avec_valeurs = 0 then 'non estimable : les indicateurs qui s''y prêtent n''ont pas de valeurs'
        else 'non estimable : aucun plan d''estimation n''est arrêté'
    end as phrase_impact,
    plans.estimation_id as estimation_principale,
    cast(coalesce(plans.plans, 0) as {{ entier }}) as plans_estimation,
    coalesce(fraicheurs.en_retard, 0) > 0 as est_en_retard,
    cast(coalesce(fraicheurs.sources, 0) as {{ entier }}) as sources,
    cast(coalesce(fraicheurs.en_retard, 0) as {{ entier }}) as sources_en_retard,
    coalesce(couverture.mention, plans.mention) as mention
from interventions
inner join {{ ref('mart_couverture') }} as couverture on couverture.intervention_id = interventions.intervention_id
left join progres on progres.intervention_id = interventions.intervention_id
left join situations on situations.intervention_id = interventions.intervention_id and situations.rang = 1
left join plans on plans.intervention_id = interventions.intervention_id and plans.ordre = 1
left join traites on traites.intervention_id = interventions.intervention_id
left join causaux on causaux.intervention_id = interventions.intervention_id
left join fraicheurs on fraicheurs.intervention_id = interventions.intervention_id

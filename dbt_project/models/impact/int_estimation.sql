-- Declared plans with what is already known against them before any estimate: a break of series inside the panel (two
-- sides of a break are never compared, whatever a pre-trend test would say), an enclosing territory (R-ECO), no date.
-- Simulated outcomes have plans of their own, which exist as long as the demonstration does; a simulated treatment says
-- nothing of a real outcome, nor the other way round.
with simules as (
    select indicateur_id, max(mention) as mention
    from {{ ref('fct_observation') }}
    where mention is not null
    group by indicateur_id
),

plans as (
    select estimations.*, simules.mention as mention_resultat
    from {{ source('catalogue', 'estimations') }} as estimations
    left join simules on simules.indicateur_id = estimations.indicateur_id
    where estimations._actuelle and (simules.mention is not null or not {{ est_simule('estimations.indicateur_id') }})
),

annees as (
    select plans.estimation_id, plans.indicateur_id, annees.annee
    from plans
    inner join ({% for annee in range(1982, var('cog_pivot') + 1) %}select {{ annee }} as annee{% if not loop.last %} union all {% endif %}{% endfor %}) as annees
        on ' ; ' || plans.annees || ' ; ' like '% ; ' || annees.annee || ' ; %'
),

bornes as (
    select estimation_id, min(annee) as premiere_annee, max(annee) as derniere_annee from annees group by estimation_id
),

segments as (
    select annees.estimation_id, count(distinct serie.serie) as series, max(serie.date_debut) as rupture
    from annees
    inner join {{ ref('int_serie') }} as serie
        on serie.indicateur_id = annees.indicateur_id
        and cast(annees.annee || '-01-01' as date) >= serie.date_debut
        and (serie.date_fin is null or cast(annees.annee || '-01-01' as date) < serie.date_fin)
    group by annees.estimation_id
),

traites as (
    select
        fait.intervention_id, count(*) as territoires, count(fait.date_debut) as dates,
        max(fait.mention) as mention,
        sum(case when fait.territoire_niveau <> 'perimetre' or membres.parent_code is not null then 1 else 0 end) as situes,
        sum(case when fait.date_debut is not null and (fait.territoire_niveau <> 'perimetre' or membres.parent_code is not null) then 1 else 0 end) as situes_dates
    from {{ ref('fct_intervention_territoire') }} as fait
    left join (
        select distinct parent_code from {{ ref('bridge_territoire') }} where parent_niveau = 'perimetre'
    ) as membres on fait.territoire_niveau = 'perimetre' and membres.parent_code = fait.territoire_code
    group by fait.intervention_id
),

enclos as (
    select intervention_id, indicateur_id, max(case when est_englobant then 1 else 0 end) as est_englobant
    from {{ ref('bridge_intervention_indicateur') }}
    group by intervention_id, indicateur_id
)

select
    plans.estimation_id, plans.intervention_id, plans.indicateur_id, plans.rang, plans.unite, plans.methode,
    plans.transformation, plans.annees, plans.reference, plans.horizon, plans.anticipation, plans.decalage,
    plans.part_traitee_min, plans.population_min, plans.population_max, plans.covariables, plans.fixe_le, plans.note, coalesce(plans.mention_resultat, traites.mention) as mention,
    bornes.premiere_annee, bornes.derniere_annee,
    case
        when segments.series > 1
            then 'rupture de série déclarée au ' || segments.rupture || ' : les valeurs d''avant et d''après ne se comparent pas'
        when traites.mention is not null and plans.mention_resultat is null
            then 'territoires traités simulés (démonstration), valeurs réelles : rien à estimer'
        when traites.mention is null and plans.mention_resultat is not null and traites.territoires > 0
            then 'valeurs simulées (démonstration), territoires traités réels : rien à estimer'
        when coalesce(traites.territoires, 0) = 0 then 'aucun territoire traité n''est connu'
        when traites.situes = 0 then 'la source ne donne pas les membres des périmètres traités : ni unités traitées, ni témoins'
        when traites.dates = 0 then 'aucune date de début n''est connue'
        when traites.situes_dates = 0
            then 'les territoires traités dont la date est connue n''ont pas de membres connus, et ceux dont les membres sont connus n''ont pas de date'
        -- An effect is looked for at the level of the treated area; a wider one only says what surrounds it. Employment
        -- zones and départements are units of their own when the plan says which share of them must be treated.
        when coalesce(enclos.est_englobant, 0) = 1 and plans.unite = 'commune'
            then 'l''indicateur porte sur un territoire englobant : aucun statut causal (R-ECO)'
    end as motif
from plans
left join bornes on bornes.estimation_id = plans.estimation_id
left join segments on segments.estimation_id = plans.estimation_id
left join traites on traites.intervention_id = plans.intervention_id
left join enclos on enclos.intervention_id = plans.intervention_id and enclos.indicateur_id = plans.indicateur_id

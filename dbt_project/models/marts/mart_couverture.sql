-- What each intervention can show: its indicators on public policy and on daily life, those with observed values, and
-- why the others have none. The roadmap asks for both kinds, for every intervention.
with valeurs as (
    select
        indicateur_id,
        count(*) as observations,
        count(distinct periode_debut) as dates,
        min(periode_debut) as premiere_periode,
        max(periode_fin) as derniere_periode,
        max(mention) as mention
    from {{ ref('fct_observation') }}
    where valeur is not null and statut_valeur in ('observé', 'provisoire') and est_derniere_version
    group by indicateur_id
),

liens as (
    select
        pont.intervention_id, pont.indicateur_id, pont.portee, pont.est_englobant,
        coalesce(valeurs.observations, 0) as observations,
        coalesce(valeurs.dates, 0) as dates,
        valeurs.premiere_periode, valeurs.derniere_periode, valeurs.mention,
        coalesce(
            indicateur.motif_sans_valeur,
            'donnée interne : aucun relevé « ' || indicateur.registre || ' » chargé ne le renseigne',
            'aucune observation dans les sources chargées'
        ) as motif
    from {{ ref('bridge_intervention_indicateur') }} as pont
    inner join {{ ref('int_indicateur') }} as indicateur on indicateur.indicateur_id = pont.indicateur_id
    left join valeurs on valeurs.indicateur_id = pont.indicateur_id
),

traites as (
    select intervention_id, count(*) as territoires, count(date_debut) as territoires_dates, max(mention) as mention
    from {{ ref('fct_intervention_territoire') }}
    where statut = 'actif'
    group by intervention_id
),

comptes as (
    select
        intervention_id,
        sum(case when portee = 'politique_publique' then 1 else 0 end) as indicateurs_politique_publique,
        sum(case when portee = 'vie_quotidienne' then 1 else 0 end) as indicateurs_vie_quotidienne,
        sum(case when portee = 'politique_publique' and observations > 0 then 1 else 0 end) as observes_politique_publique,
        sum(case when portee = 'vie_quotidienne' and observations > 0 then 1 else 0 end) as observes_vie_quotidienne,
        sum(case when observations > 0 and not est_englobant then 1 else 0 end) as observes_au_niveau_action,
        sum(case when observations > 0 and est_englobant then 1 else 0 end) as observes_territoire_englobant,
        sum(case when dates >= 2 then 1 else 0 end) as observes_a_deux_dates,
        sum(observations) as observations,
        min(premiere_periode) as premiere_periode,
        max(derniere_periode) as derniere_periode,
        max(mention) as mention
    from liens
    group by intervention_id
),

manques as (
    select intervention_id, {{ liste("indicateur_id || ' : ' || motif", "indicateur_id") }} as manquants
    from liens
    where observations = 0
    group by intervention_id
)

select
    intervention.intervention_id,
    cast(coalesce(comptes.indicateurs_politique_publique, 0) as {{ dbt.type_int() }}) as indicateurs_politique_publique,
    cast(coalesce(comptes.indicateurs_vie_quotidienne, 0) as {{ dbt.type_int() }}) as indicateurs_vie_quotidienne,
    cast(coalesce(comptes.observes_politique_publique, 0) as {{ dbt.type_int() }}) as observes_politique_publique,
    cast(coalesce(comptes.observes_vie_quotidienne, 0) as {{ dbt.type_int() }}) as observes_vie_quotidienne,
    cast(coalesce(comptes.observes_au_niveau_action, 0) as {{ dbt.type_int() }}) as observes_au_niveau_action,
    cast(coalesce(comptes.observes_territoire_englobant, 0) as {{ dbt.type_int() }}) as observes_territoire_englobant,
    cast(coalesce(comptes.observes_a_deux_dates, 0) as {{ dbt.type_int() }}) as observes_a_deux_dates,
    cast(coalesce(comptes.observations, 0) as {{ dbt.type_bigint() }}) as observations,
    comptes.premiere_periode,
    comptes.derniere_periode,
    cast(coalesce(traites.territoires, 0) as {{ dbt.type_int() }}) as territoires_actifs,
    cast(coalesce(traites.territoires_dates, 0) as {{ dbt.type_int() }}) as territoires_actifs_dates,
    manques.manquants,
    case
        when coalesce(traites.territoires, 0) > 0 then null
        else coalesce(intervention.motif_sans_liste, 'liste déclarée mais non fournie')
    end as motif_sans_territoire,
    coalesce(comptes.mention, traites.mention) as mention
from {{ ref('dim_intervention') }} as intervention
left join comptes on comptes.intervention_id = intervention.intervention_id
left join manques on manques.intervention_id = intervention.intervention_id
left join traites on traites.intervention_id = intervention.intervention_id

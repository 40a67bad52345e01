-- An indicator may serve several interventions; its observations are stored once.
with liens as (
    select intervention_id, indicateur_id, portee, false as est_partage, false as est_englobant, note
    from {{ source('catalogue', 'indicateurs') }}
    where _actuelle
    union all
    select
        partages.intervention_id, partages.indicateur_id, coalesce(partages.portee, communs.portee), true,
        coalesce(partages.est_englobant, false), partages.note
    from {{ source('catalogue', 'indicateurs_partages') }} as partages
    left join {{ source('catalogue', 'indicateurs_communs') }} as communs
        on communs.indicateur_id = partages.indicateur_id and communs._actuelle
    where partages._actuelle
)

select intervention_id, indicateur_id, portee, est_partage, est_englobant, note
from liens
-- A simulated outcome is one of an intervention's as long as the demonstration is here; elsewhere it would be a hole.
where not {{ est_simule('indicateur_id') }} or exists (select 1 from {{ source('demonstration', 'resultats') }} where _actuelle)

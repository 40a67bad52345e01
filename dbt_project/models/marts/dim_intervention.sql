select
    intervention_id, intervention_nom, forme, section, thematique, politique_publique, modalite, promesse, niveau_action,
    unite_traitement, listes, motif_sans_liste, note
from {{ source('catalogue', 'interventions') }}
where _actuelle

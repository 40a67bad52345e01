-- Yearly reports on actions. est_action is false for a row that only carries an indicator of a whole programme.
select
    action.action_id, action.convention_id, action.intervention_id, action.departement_code, departement.region_code,
    action.territoire_niveau, coalesce(commune.commune_code, action.territoire_code) as territoire_code, action.indicateur_id, action.jalon,
    action.statut, action.date_prevue, action.date_debut, action.date_achevement, cast(action.annee as {{ dbt.type_int() }}) as annee,
    action.quantite, action.quantite_reference, action.unite, action.beneficiaires, action.concertee,
    action.convention_id is not null or action.indicateur_id is null as est_action,
    action._millesime as millesime, action._snapshot_sha256 as snapshot_sha256, action._connue_le as connue_le, action.mention
from {{ ref('stg_interne__action') }} as action
left join {{ ref('int_departement') }} as departement on departement.departement_code = action.departement_code
left join {{ ref('int_code_commune') }} as commune on commune.code_origine = action.territoire_code and action.territoire_niveau = 'commune'

-- Commitments with what their convention and their action say of them.
select
    engagement.engagement_id, engagement.convention_id, engagement.action_id, convention.intervention_id, engagement.departement_code,
    departement.region_code, convention.territoire_niveau, convention.territoire_code, engagement.financeur, engagement.date_engagement,
    {{ annee('engagement.date_engagement') }} as annee, engagement.montant_engage_eur, engagement.montant_paye_eur,
    engagement.date_dernier_paiement, coalesce(action.concertee, false) as est_concertee,
    engagement.financeur in ('État', 'ANCT') as est_etat,
    engagement._millesime as millesime, engagement._snapshot_sha256 as snapshot_sha256, engagement._connue_le as connue_le,
    coalesce(engagement.mention, convention.mention, action.mention) as mention
from {{ ref('stg_interne__engagement_financier') }} as engagement
left join {{ ref('int_convention') }} as convention on convention.convention_id = engagement.convention_id
left join {{ ref('stg_interne__action') }} as action on action.action_id = engagement.action_id
left join {{ ref('int_departement') }} as departement on departement.departement_code = engagement.departement_code

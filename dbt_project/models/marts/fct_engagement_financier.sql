-- Commitments and payments by funder: for authorised evaluators. No contact.
select
    engagement_id, convention_id, action_id, intervention_id, departement_code, financeur, date_engagement, montant_engage_eur,
    montant_paye_eur, date_dernier_paiement, 'interne__engagement_financier' as source_id, millesime, snapshot_sha256, mention
from {{ ref('int_engagement') }}

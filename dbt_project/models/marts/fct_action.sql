-- Yearly reports on actions: for authorised evaluators. No comment.
select
    action_id, convention_id, intervention_id, departement_code, territoire_niveau, territoire_code, indicateur_id, jalon, statut,
    date_prevue, date_debut, date_achevement, annee, quantite, quantite_reference, unite,
    cast(beneficiaires as {{ dbt.type_bigint() }}) as beneficiaires, concertee,
    'interne__action' as source_id, millesime, snapshot_sha256, mention
from {{ ref('int_action') }}

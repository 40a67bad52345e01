-- Conventions, contracts and pacts: for authorised evaluators. No signatory, no contact, no free text.
select
    convention_id, intervention_id, departement_code, territoire_niveau, territoire_code, date_signature, date_fin, statut,
    repris_par, cast(signataires_nb as {{ dbt.type_bigint() }}) as signataires_nb, chef_de_projet_en_poste, est_en_cours,
    'interne__convention' as source_id, millesime, snapshot_sha256, mention
from {{ ref('int_convention') }}

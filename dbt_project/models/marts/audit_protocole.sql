-- Breaches of the tailor-made protocol: each names the request, the rule and the evidence.
select
    demande_id, departement_code, cast(annee as {{ dbt.type_int() }}) as annee, regle, libelle, gravite, preuve,
    'interne__demande_ingenierie' as source_id, millesime, snapshot_sha256, mention
from {{ ref('int_manquement') }}

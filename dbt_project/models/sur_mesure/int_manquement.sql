-- Requests that break a rule of the protocol: one row per request and rule, with the dates and values that show it.
{% for regle in regles_du_protocole() %}
select
    demande_id, departement_code, region_code, annee, '{{ regle.regle }}' as regle, '{{ regle.libelle | replace("'", "''") }}' as libelle,
    '{{ regle.gravite }}' as gravite, {{ regle.preuve }} as preuve, millesime, snapshot_sha256, mention
from {{ ref('int_demande') }}
where {{ regle.condition }}
{% if not loop.last %}union all{% endif %}
{% endfor %}

-- Which internal measures are part of which, for the checks of statistical secrecy: on one territory and period the part never
-- exceeds the whole. Shares that are published follow from dim_indicateur and are not written here.
{% for partie, tout in var('inclusions_internes').items() -%}
select
    partie.mesure_id as partie_id, tout.mesure_id as tout_id
from {{ ref('int_mesure_demandee') }} as partie
inner join {{ ref('int_mesure_demandee') }} as tout
    on tout.mesure_id = {{ dbt.concat(["'" ~ tout ~ "'", "substring(partie.mesure_id, " ~ (partie | length + 1) ~ ", 200)"]) }}
where {{ de_la_famille('partie.mesure_id', partie) }}
{% if not loop.last %}union all{% endif %}
{% endfor %}

-- The measure whose cell says how many cases stand behind a median or a mean, which is no sum and has no cell of its own.
{% for famille, effectif in var('effectifs_internes').items() -%}
select mesure_id, {{ dbt.concat(["'" ~ effectif ~ "'", "substring(mesure_id, " ~ (famille | length + 1) ~ ", 200)"]) }} as effectif_mesure_id
from {{ ref('int_mesure_demandee') }}
where {{ de_la_famille('mesure_id', famille) }}
union all
{% endfor -%}
-- A mean is worth its weight; a median of reports, the number of reports.
select
    mesure_id,
    {{ dbt.concat(["case when nature = 'moyenne' then 'action_reference' else 'action_lignes' end", "substring(mesure_id, " ~ ('action_quantite' | length + 1) ~ ", 200)"]) }}
from {{ ref('int_mesure_demandee') }}
where {{ de_la_famille('mesure_id', 'action_quantite') }} and nature in ('moyenne', 'mediane')

{{ config(meta={'dagster': {'ref': {'name': 'mart_fraicheur'}}}) }}
-- Every row made from the demonstration world says so.
{% for table in [
    'fct_observation', 'fct_intervention_territoire', 'audit_rejet', 'mart_sur_mesure', 'mart_consolidation_annuelle', 'audit_protocole',
    'mart_contrat', 'fct_demande', 'fct_convention', 'fct_action', 'fct_engagement_financier',
] -%}
select '{{ table }}' as ou, source_id, count(*) as lignes
from {{ ref(table) }}
where millesime = 'demonstration' and mention is null
group by source_id
union all
{% endfor -%}
select 'mart_fraicheur', source_id, 1
from {{ ref('mart_fraicheur') }}
where dernier_millesime = 'demonstration' and mention is null

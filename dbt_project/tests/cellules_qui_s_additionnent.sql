{{ config(meta={'dagster': {'ref': {'name': 'int_cellule'}}}) }}
-- The declared sums of internal measures hold on every territory and period: secrecy reasons on them.
select relation.relation_id, cellule.territoire_niveau, cellule.territoire_code, cellule.periode
from {{ ref('int_cellule_relation') }} as relation
inner join {{ ref('int_cellule') }} as cellule on cellule.mesure_id = relation.mesure_id
group by relation.relation_id, cellule.territoire_niveau, cellule.territoire_code, cellule.periode
having abs(sum(relation.coefficient * cellule.valeur)) > 0

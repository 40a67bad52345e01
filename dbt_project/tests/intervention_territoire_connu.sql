{{ config(meta={'dagster': {'ref': {'name': 'fct_intervention_territoire'}}}) }}
-- Every treated territory exists in the vintage it names (R-GEO 1).
select traite.*
from {{ ref('fct_intervention_territoire') }} as traite
left join {{ ref('dim_territoire') }} as territoire
    on territoire.territoire_niveau = traite.territoire_niveau
    and territoire.territoire_code = traite.territoire_code
    and territoire.cog_annee = traite.cog_annee
where territoire.territoire_code is null

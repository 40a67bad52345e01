{{ config(meta={'dagster': {'ref': {'name': 'fct_observation'}}}) }}
-- Every observation speaks of a territory that exists in the vintage it names (R-GEO 1).
select distinct observation.territoire_niveau, observation.territoire_code, observation.cog_annee
from {{ ref('fct_observation') }} as observation
left join {{ ref('dim_territoire') }} as territoire
    on territoire.territoire_niveau = observation.territoire_niveau
    and territoire.territoire_code = observation.territoire_code
    and territoire.cog_annee = observation.cog_annee
where territoire.territoire_code is null

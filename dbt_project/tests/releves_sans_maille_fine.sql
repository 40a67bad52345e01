{{ config(meta={'dagster': {'ref': {'name': 'fct_observation'}}}) }}
-- What comes from internal records is never shown below the département, save for a named perimeter.
select indicateur_id, territoire_niveau, territoire_code, periode_debut
from {{ ref('fct_observation') }}
where substring(source_id, 1, 9) = 'interne__' and territoire_niveau not in ('departement', 'region', 'national', 'perimetre')

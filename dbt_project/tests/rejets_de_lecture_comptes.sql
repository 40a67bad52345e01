{{ config(meta={'dagster': {'ref': {'name': 'audit_rejet'}}}) }}
-- The lines that reading refused are as many in audit_rejet as in the counts of each file kept.
with refusees as (
    select source_id, millesime, chemin, count(distinct ligne) as lignes
    from {{ ref('audit_rejet') }}
    where etape = 'lecture' and not ligne_gardee
    group by source_id, millesime, chemin
),

comptees as (
    select source_id, millesime, chemin, lignes_rejetees as lignes
    from {{ source('registre', 'livraisons') }}
    where lignes_rejetees > 0
)

select
    coalesce(comptees.source_id, refusees.source_id) as source_id,
    coalesce(comptees.millesime, refusees.millesime) as millesime,
    coalesce(comptees.chemin, refusees.chemin) as chemin,
    comptees.lignes as comptees, refusees.lignes as refusees
from comptees
full outer join refusees
    on refusees.source_id = comptees.source_id and refusees.millesime = comptees.millesime and refusees.chemin = comptees.chemin
where coalesce(comptees.lignes, 0) <> coalesce(refusees.lignes, 0)

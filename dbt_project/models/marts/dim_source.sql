with demonstrations as (
    select source_id, max({{ mention('millesime') }}) as mention
    from {{ source('registre', 'livraisons') }}
    where snapshot_sha256 is not null
    group by source_id
)

select
    sources.source_id, sources.titre, sources.producteur, sources.description, sources.licence, sources.citation, sources.page,
    sources.cadence, sources.grain, sources.confidentialite, sources.regle_millesime, sources.lien_verifie, sources.responsable,
    sources.fichier_declaration, demonstrations.mention
from {{ source('registre', 'sources') }} as sources
left join demonstrations on demonstrations.source_id = sources.source_id

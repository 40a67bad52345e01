-- Where each commune code that no longer stands alone went: the commune of the pivot vintage, with the share of it (R-GEO 3 and 4).
select
    passage.cog_annee,
    passage.code_origine as ancien_code,
    passage.commune_code,
    actuelle.nom as commune_nom,
    passage.part,
    passage.nature
from {{ ref('int_passage') }} as passage
inner join {{ ref('stg_etalab__communes') }} as actuelle
    on actuelle.commune_code = passage.commune_code
    and actuelle.cog_annee = {{ var('cog_pivot') }}
    and actuelle.type_commune = 'commune-actuelle'
where passage.code_origine <> passage.commune_code or passage.nature = 'scission'

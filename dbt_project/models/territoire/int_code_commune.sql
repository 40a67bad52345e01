-- The commune of the pivot vintage for any code that a list may hold, whatever its age (R-GEO 2).
-- One answer per code: the commune itself, else the official passage table, else what the pivot vintage says of its
-- delegated communes and of the arrondissements of Paris, Lyon and Marseille.
with candidats as (
    select commune_code as code_origine, commune_code, 1 as priorite
    from {{ ref('stg_etalab__communes') }}
    where cog_annee = {{ var('cog_pivot') }} and type_commune = 'commune-actuelle'
    union all
    select passage.ancien_code, passage.commune_code, 2
    from {{ ref('stg_insee__passage') }} as passage
    inner join {{ ref('stg_etalab__communes') }} as actuelle
        on actuelle.commune_code = passage.commune_code
        and actuelle.cog_annee = {{ var('cog_pivot') }} and actuelle.type_commune = 'commune-actuelle'
    union all
    select commune_code, commune_parente, 3
    from {{ ref('stg_etalab__communes') }}
    where cog_annee = {{ var('cog_pivot') }} and type_commune <> 'commune-actuelle' and commune_parente is not null
),

rangees as (
    select *, row_number() over (partition by code_origine order by priorite, commune_code) as rang
    from candidats
)

select code_origine, commune_code from rangees where rang = 1

-- Communes of every vintage in hand. Two deliveries share COG 2024: the younger population stands for that vintage.
with rangees as (
    select
        commune_code, nom, type as type_commune, departement_code, region_code, arrondissement_code, siren, population,
        coalesce(commune_parente, chef_lieu) as commune_parente, _cog_annee as cog_annee, _millesime as millesime, _snapshot_sha256 as snapshot_sha256,
        row_number() over (partition by commune_code, type, _cog_annee order by _millesime desc) as rang
    from {{ source('etalab', 'communes') }}
    where _actuelle
)

select * from rangees where rang = 1

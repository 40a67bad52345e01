with rangees as (
    select
        epci_code, epci_nom, commune_code, _cog_annee as cog_annee,
        row_number() over (partition by commune_code, epci_code, _cog_annee order by _millesime desc) as rang
    from {{ source('etalab', 'epci') }}
    where _actuelle
)

select * from rangees where rang = 1

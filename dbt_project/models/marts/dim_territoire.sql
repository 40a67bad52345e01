-- Every territory of every vintage in hand, one row per (territoire_niveau, territoire_code, cog_annee).
with communes as (
    select * from {{ ref('stg_etalab__communes') }} where type_commune = 'commune-actuelle'
),

millesimes as (
    select distinct cog_annee from communes
),

appartenance_epci as (
    select commune_code, cog_annee, max(epci_code) as epci_code
    from {{ ref('stg_etalab__epci') }}
    group by commune_code, cog_annee
),

zonages as (
    select commune_code, arrondissement_nom, zone_emploi_code, zone_emploi_nom
    from {{ source('insee', 'zonages') }}
    where _actuelle
),

lignes as (
    select
        'commune' as territoire_niveau, communes.commune_code as territoire_code, communes.cog_annee,
        communes.nom as territoire_nom, appartenance_epci.epci_code, communes.arrondissement_code,
        communes.departement_code, communes.region_code, communes.population
    from communes
    left join appartenance_epci
        on appartenance_epci.commune_code = communes.commune_code and appartenance_epci.cog_annee = communes.cog_annee

    union all
    select
        'epci', epci.epci_code, epci.cog_annee, max(epci.epci_nom), epci.epci_code, null,
        case when count(distinct communes.departement_code) = 1 then max(communes.departement_code) end,
        case when count(distinct communes.region_code) = 1 then max(communes.region_code) end,
        sum(communes.population)
    from {{ ref('stg_etalab__epci') }} as epci
    inner join communes on communes.commune_code = epci.commune_code and communes.cog_annee = epci.cog_annee
    group by epci.epci_code, epci.cog_annee

    union all
    select
        'arrondissement', communes.arrondissement_code, communes.cog_annee,
        coalesce(max(zonages.arrondissement_nom), 'Arrondissement ' || communes.arrondissement_code), null, communes.arrondissement_code,
        max(communes.departement_code), max(communes.region_code), sum(communes.population)
    from communes
    left join zonages on zonages.commune_code = communes.commune_code
    where communes.arrondissement_code is not null
    group by communes.arrondissement_code, communes.cog_annee

    union all
    select
        'departement', departements.departement_code, millesimes.cog_annee, max(departements.nom), null, null,
        departements.departement_code, max(departements.region_code), sum(communes.population)
    from {{ source('etalab', 'departements') }} as departements
    cross join millesimes
    left join communes
        on communes.departement_code = departements.departement_code and communes.cog_annee = millesimes.cog_annee
    where departements._actuelle
    group by departements.departement_code, millesimes.cog_annee

    union all
    select
        'region', regions.region_code, millesimes.cog_annee, max(regions.nom), null, null, null,
        regions.region_code, sum(communes.population)
    from {{ source('etalab', 'regions') }} as regions
    cross join millesimes
    left join communes on communes.region_code = regions.region_code and communes.cog_annee = millesimes.cog_annee
    where regions._actuelle
    group by regions.region_code, millesimes.cog_annee

    union all
    select 'national', 'FR', communes.cog_annee, 'France (départements de métropole et d''outre-mer)', null, null, null, null, sum(communes.population)
    from communes
    where communes.departement_code in (select departement_code from {{ ref('int_departement') }})
    group by communes.cog_annee

    union all
    select
        'zone_emploi', zonages.zone_emploi_code, communes.cog_annee, max(zonages.zone_emploi_nom), null, null,
        case when count(distinct communes.departement_code) = 1 then max(communes.departement_code) end,
        case when count(distinct communes.region_code) = 1 then max(communes.region_code) end,
        sum(communes.population)
    from zonages
    inner join communes on communes.commune_code = zonages.commune_code and communes.cog_annee = {{ var('cog_pivot') }}
    where zonages.zone_emploi_code is not null
    group by zonages.zone_emploi_code, communes.cog_annee

    union all
    select 'qpv_2015', qpv_code, {{ var('cog_pivot') }}, max(nom), null, null, null, null, null
    from {{ source('insee', 'qpv_2015') }}
    where _actuelle
    group by qpv_code

    union all
    select 'qpv_2024', qpv_code, {{ var('cog_pivot') }}, max(nom), null, null, null, null, null
    from {{ source('anct', 'qpv_2024') }}
    where _actuelle
    group by qpv_code

    union all
    -- Some lists only number their perimeters.
    select 'perimetre', perimetre_code, {{ var('cog_pivot') }}, coalesce(max(perimetre_nom), perimetre_code), null, null, null, null, null
    from {{ ref('int_perimetre') }}
    group by perimetre_code
)

select
    lignes.territoire_niveau,
    lignes.territoire_code,
    cast(lignes.cog_annee as {{ dbt.type_int() }}) as cog_annee,
    lignes.territoire_nom,
    lignes.epci_code,
    lignes.arrondissement_code,
    lignes.departement_code,
    lignes.region_code,
    cast(lignes.population as {{ dbt.type_bigint() }}) as population,
    lignes.cog_annee = {{ var('cog_pivot') }} as est_pivot,
    zonage.densite,
    zonage.ruralite,
    zonage.centralite,
    zonage.massif,
    zonage.bassin_emploi_code,
    zonage.bassin_emploi_nom,
    zonage.taxe_logements_vacants,
    zonage.zone_tendue
from lignes
left join {{ ref('int_zonage_commune') }} as zonage
    on zonage.commune_code = lignes.territoire_code and lignes.territoire_niveau = 'commune'
    and lignes.cog_annee = {{ var('cog_pivot') }}

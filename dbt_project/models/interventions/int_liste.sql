-- States of the treatment lists with every code resolved: what was published when, about whom, in every version known.
-- A perimeter is its own territory; a nine-digit code is an EPCI, or a commune designated by its SIREN. Groupings
-- without own taxation (établissement public territorial, pôle d'équilibre, syndicat mixte) bear a true SIREN that no
-- table of members in hand knows: they are named perimeters whose members are not known.
with liste as (
    select * from {{ source('arrivee', 'listes') }}
),

epci as (
    select epci_code, max(cog_annee) as cog_annee
    from {{ ref('stg_etalab__epci') }}
    group by epci_code
),

siren as (
    select siren, min(commune_code) as code_commune
    from {{ ref('stg_etalab__communes') }}
    where siren is not null and type_commune = 'commune-actuelle'
    group by siren
),

departement as (
    select departement_code from {{ ref('int_departement') }}
),

-- Only where the list says that its code is a région's: 84 is a département too.
region as (
    select region_code from {{ source('etalab', 'regions') }} where _actuelle
)

select
    liste.intervention_id,
    liste.liste_id,
    liste.source_id,
    liste.millesime,
    liste.etat_date,
    liste.connue_le,
    liste.actuelle,
    liste.snapshot_sha256,
    liste.ligne,
    liste.projet_id,
    liste.projet_nom,
    liste.date_debut,
    liste.code_origine,
    case
        when liste.niveau_declare = 'perimetre' then 'perimetre'
        when liste.niveau_declare in ('qpv_2015', 'qpv_2024') then liste.niveau_declare
        when epci.epci_code is not null then 'epci'
        when commune.commune_code is not null then 'commune'
        when departement.departement_code is not null then 'departement'
        when region.region_code is not null then 'region'
        when liste.niveau_declare in ('epci', 'code') and {{ siren_valide('liste.code_origine') }} then 'perimetre'
    end as territoire_niveau,
    case
        when liste.niveau_declare = 'perimetre' then liste.projet_id
        when liste.niveau_declare in ('qpv_2015', 'qpv_2024') then liste.code_origine
        when epci.epci_code is not null then epci.epci_code
        when commune.commune_code is not null then commune.commune_code
        when departement.departement_code is not null then departement.departement_code
        when region.region_code is not null then region.region_code
        when liste.niveau_declare in ('epci', 'code') and {{ siren_valide('liste.code_origine') }} then liste.code_origine
    end as territoire_code,
    case when epci.epci_code is not null and liste.niveau_declare <> 'perimetre' then epci.cog_annee else {{ var('cog_pivot') }} end as cog_annee
from liste
left join epci on epci.epci_code = liste.code_origine and liste.niveau_declare in ('epci', 'code')
left join siren on siren.siren = liste.code_origine and epci.epci_code is null
left join {{ ref('int_code_commune') }} as commune
    on commune.code_origine = coalesce(siren.code_commune, liste.code_origine)
    and liste.niveau_declare in ('commune', 'code')
left join departement
    on departement.departement_code = liste.code_origine and liste.niveau_declare in ('departement', 'code')
left join region on region.region_code = liste.code_origine and liste.niveau_declare = 'region'

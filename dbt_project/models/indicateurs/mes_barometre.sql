-- The barometers' published values as measures: they are shown at the level where they were published, never summed.
with ditp as (
    select
        'ditp_' || replace(lower(indic_id), '-', '_') as mesure_id,
        case maille when 'DEPT' then 'departement' when 'REG' then 'region' else 'national' end as territoire_niveau,
        case when maille = 'NAT' then 'FR' else substring(zone_code, 2, 10) end as territoire_code,
        date_valeur as jour, va as valeur,
        'ditp__barometre' as source_id, _millesime as millesime, _snapshot_sha256 as snapshot_sha256,
        _connue_le as connue_le, _ligne as ligne, _actuelle as actuelle
    from {{ source('ditp', 'barometre') }}
    where va is not null
),

etalab as (
    select
        id_indicateur, 'departement' as territoire_niveau, departement_code as territoire_code, date_valeur, valeur,
        'etalab__barometre_departements' as source_id, _millesime, _snapshot_sha256, _connue_le, _ligne, _actuelle
    from {{ source('etalab', 'barometre_departements') }}
    union all
    select
        id_indicateur, 'region', region_code, date_valeur, valeur,
        'etalab__barometre_regions', _millesime, _snapshot_sha256, _connue_le, _ligne, _actuelle
    from {{ source('etalab', 'barometre_regions') }}
    union all
    select
        id_indicateur, 'national', 'FR', date_valeur, valeur,
        'etalab__barometre_national', _millesime, _snapshot_sha256, _connue_le, _ligne, _actuelle
    from {{ source('etalab', 'barometre_national') }}
)

select
    mesure_id, 'indice' as nature, territoire_niveau, territoire_code, {{ var('cog_pivot') }} as cog_annee,
    jour as periode_debut, jour as periode_fin, valeur, 'observé' as statut_valeur, source_id, millesime,
    snapshot_sha256, connue_le, ligne, actuelle
from ditp
union all
select
    'etalab_' || replace(id_indicateur, '-', '_'), 'indice', territoire_niveau, territoire_code, {{ var('cog_pivot') }},
    date_valeur, date_valeur, valeur, 'observé', source_id, _millesime,
    _snapshot_sha256, _connue_le, _ligne, _actuelle
from etalab
where valeur is not null

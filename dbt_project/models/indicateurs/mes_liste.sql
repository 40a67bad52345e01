-- Counts taken from exhaustive lists: treated communes of each programme, France services sites, signed ORT.
-- A territory that the list does not hold counts an observed zero when it is aggregated (exhaustif). A list that its
-- producer revises gives a new count, known that day; the one before stays (R-REV).
with programmes as (
    select
        'programme_' || intervention_id as mesure_id, territoire_niveau, territoire_code, etat_date as jour,
        source_id, millesime, snapshot_sha256, connue_le, actuelle, count(distinct territoire_code) as valeur, min(ligne) as ligne
    from {{ ref('int_liste') }}
    where territoire_niveau = 'commune'
    group by
        intervention_id, territoire_niveau, territoire_code, etat_date, source_id, millesime, snapshot_sha256, connue_le, actuelle
),

sites as (
    select
        case when est_antenne then 'fs_antennes' else 'fs_sites' end as mesure_id,
        'commune' as territoire_niveau, commune_code as territoire_code, _publie_le as jour,
        'anct__france_services' as source_id, _millesime as millesime, _snapshot_sha256 as snapshot_sha256,
        _connue_le as connue_le, _actuelle as actuelle, count(*) as valeur, min(_ligne) as ligne
    from {{ ref('stg_anct__france_services') }}
    where commune_code is not null
    group by est_antenne, commune_code, _publie_le, _millesime, _snapshot_sha256, _connue_le, _actuelle
),

ort as (
    select
        'ort_conventions_signees' as mesure_id, 'commune' as territoire_niveau, codes.commune_code as territoire_code,
        ort._publie_le as jour, 'dgaln__ort' as source_id, ort._millesime as millesime,
        ort._snapshot_sha256 as snapshot_sha256, ort._connue_le as connue_le, ort._actuelle as actuelle, count(*) as valeur,
        min(ort._ligne) as ligne
    from {{ source('dgaln', 'ort') }} as ort
    inner join {{ ref('int_code_commune') }} as codes on codes.code_origine = ort.commune_code
    where ort.statut_signature = 'Signée'
    group by codes.commune_code, ort._publie_le, ort._millesime, ort._snapshot_sha256, ort._connue_le, ort._actuelle
)

select
    mesure_id, 'effectif' as nature, territoire_niveau, territoire_code, {{ var('cog_pivot') }} as cog_annee,
    jour as periode_debut, jour as periode_fin, cast(valeur as {{ type_double() }}) as valeur,
    'observé' as statut_valeur, source_id, millesime, snapshot_sha256, connue_le, ligne, actuelle
from (
    select * from programmes
    union all
    select * from sites
    union all
    select * from ort
) as comptes

-- One row per source: its last accepted delivery and whether the last run that asked for it got it or kept an older one.
-- No clock here: lateness against today's date is what « dk sources » and Dagster tell.
-- Records come as a register or, in its place, as the demonstration world: the one that is not there is not awaited while
-- the other is.
with toutes as (
    select
        livraisons.*,
        max(case when millesime in ('registre', 'demonstration') and snapshot_sha256 is not null then 1 else 0 end)
            over (partition by source_id) as releves_presents,
        max(case when millesime = 'registre' then 1 else 0 end) over (partition by source_id) as a_un_registre
    from {{ source('registre', 'livraisons') }} as livraisons
),

livraisons as (
    select *
    from toutes
    where not (
        snapshot_sha256 is null and (
            (millesime in ('registre', 'demonstration') and releves_presents = 1)
            or (millesime = 'demonstration' and a_un_registre = 1)
        )
    )
),

derniere as (
    select
        source_id, millesime, publie_le, snapshot_sha256, connue_le,
        row_number() over (partition by source_id order by publie_le desc, millesime desc, chemin) as rang
    from livraisons
    where snapshot_sha256 is not null
),

comptes as (
    select
        source_id,
        count(*) as fichiers,
        count(snapshot_sha256) as fichiers_retenus,
        sum(lignes_lues) as lignes_lues,
        sum(lignes_gardees) as lignes_gardees,
        sum(lignes_rejetees) as lignes_rejetees,
        sum(lignes_hors_tableau) as lignes_hors_tableau,
        -- What nobody was asked for is not late.
        max(case when statut_collecte = 'dernière bonne version conservée' and demandee then 1 else 0 end) as conservee,
        max(case when statut_collecte = 'non fournie' then 1 else 0 end) as absente,
        max(motif) as motif,
        max(case when snapshot_sha256 is not null then {{ mention('millesime') }} end) as mention
    from livraisons
    group by source_id
)

select
    sources.source_id,
    derniere.millesime as dernier_millesime,
    derniere.publie_le as dernier_publie_le,
    derniere.connue_le as dernier_connue_le,
    derniere.snapshot_sha256,
    cast({{ dbt.dateadd('day', 'sources.fraicheur_jours', 'derniere.publie_le') }} as date) as attendue_le,
    case
        when derniere.source_id is null then 'non fournie'
        when comptes.conservee = 1 then 'en retard'
        when comptes.absente = 1 then 'incomplète'
        else 'à jour'
    end as statut,
    nullif(comptes.motif, '') as motif,
    cast(comptes.fichiers as {{ dbt.type_bigint() }}) as fichiers,
    cast(comptes.fichiers_retenus as {{ dbt.type_bigint() }}) as fichiers_retenus,
    cast(comptes.lignes_lues as {{ dbt.type_bigint() }}) as lignes_lues,
    cast(comptes.lignes_gardees as {{ dbt.type_bigint() }}) as lignes_gardees,
    cast(comptes.lignes_rejetees as {{ dbt.type_bigint() }}) as lignes_rejetees,
    cast(comptes.lignes_hors_tableau as {{ dbt.type_bigint() }}) as lignes_hors_tableau,
    comptes.mention
from {{ source('registre', 'sources') }} as sources
left join comptes on comptes.source_id = sources.source_id
left join derniere on derniere.source_id = sources.source_id and derniere.rang = 1

-- All measures in one shape, in the geography of their producer. A table: it is read many times over, and joined to
-- itself, which an engine plans badly on files whose rows it cannot count. mention marks what rests on the demonstration.
select
    mesure_id, nature, territoire_niveau, territoire_code, cog_annee, periode_debut, periode_fin, valeur, statut_valeur,
    source_id, millesime, snapshot_sha256, connue_le, ligne, actuelle, {{ mention('millesime') }} as mention
from {{ source('arrivee', 'mesures') }}
union all
select
    mesure_id, nature, territoire_niveau, territoire_code, cog_annee, periode_debut, periode_fin, valeur, statut_valeur,
    source_id, millesime, snapshot_sha256, connue_le, ligne, actuelle, null
from {{ ref('mes_barometre') }}
union all
select
    mesure_id, nature, territoire_niveau, territoire_code, cog_annee, periode_debut, periode_fin, valeur, statut_valeur,
    source_id, millesime, snapshot_sha256, connue_le, ligne, actuelle, null
from {{ ref('mes_liste') }}
union all
select
    mesure_id, nature, territoire_niveau, territoire_code, cog_annee, periode_debut, periode_fin, valeur, statut_valeur,
    source_id, millesime, snapshot_sha256, connue_le, ligne, actuelle, mention
from {{ ref('mes_interne') }}
union all
select
    mesure_id, nature, territoire_niveau, territoire_code, cog_annee, periode_debut, periode_fin, valeur, statut_valeur,
    source_id, millesime, snapshot_sha256, connue_le, ligne, actuelle, cast(null as {{ dbt.type_string() }}) as mention
from {{ ref('mes_etablissement') }}

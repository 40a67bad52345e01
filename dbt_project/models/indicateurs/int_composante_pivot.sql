-- Components in the pivot vintage (R-GEO 4). Sums follow mergers; a split shares them by population and marks the result
-- estimated; medians and published rates pass only where the commune did not change, else they are null with the reason.
-- Each branch joins the components anew and keeps what it needs: one common set of them would be held whole in memory.
with inchangees as (
    select
        composante.indicateur_id, composante.calcul_type, composante.exhaustif, passage.commune_code as territoire_code,
        composante.periode_debut, composante.periode_fin, composante.numerateur, composante.denominateur,
        composante.statut_valeur, cast(null as {{ dbt.type_string() }}) as motif,
        composante.source_id, composante.millesime, composante.snapshot_sha256, composante.connue_le, composante.mention
    from {{ ref('int_composante') }} as composante
    inner join {{ ref('int_passage') }} as passage
        on passage.cog_annee = composante.cog_annee and passage.code_origine = composante.territoire_code
    where composante.territoire_niveau = 'commune' and passage.est_simple
),

origines_attendues as (
    select cog_annee, commune_code, count(*) as attendues
    from {{ ref('int_passage') }}
    where nature <> 'arrondissement municipal'
    group by cog_annee, commune_code
),

-- Arrondissements of Paris, Lyon and Marseille speak only when their commune is silent (R-GEO 7).
a_convertir as (
    select composante.*, passage.commune_code, passage.part, passage.nature as passage_nature
    from {{ ref('int_composante') }} as composante
    inner join {{ ref('int_passage') }} as passage
        on passage.cog_annee = composante.cog_annee and passage.code_origine = composante.territoire_code
    where composante.territoire_niveau = 'commune'
      and not passage.est_simple
      and not (
          passage.nature = 'arrondissement municipal'
          and exists (
              select 1 from {{ ref('int_composante') }} as entiere
              where entiere.territoire_niveau = 'commune'
                and entiere.territoire_code = passage.commune_code
                and entiere.indicateur_id = composante.indicateur_id
                and entiere.periode_debut = composante.periode_debut
                and entiere.snapshot_sha256 = composante.snapshot_sha256
          )
      )
),

converties as (
    select
        indicateur_id, calcul_type, exhaustif, commune_code, cog_annee, periode_debut, periode_fin,
        source_id, millesime, snapshot_sha256, connue_le,
        {{ somme_exacte('numerateur * part') }} as numerateur,
        {{ somme_exacte('denominateur * part') }} as denominateur,
        count(*) as presentes,
        count(numerateur) as renseignees,
        min(part) as part_min,
        max(case when passage_nature = 'arrondissement municipal' then 1 else 0 end) as par_arrondissement,
        max(case when statut_valeur = 'secret' then 1 else 0 end) as un_secret,
        max(mention) as mention
    from a_convertir
    group by
        indicateur_id, calcul_type, exhaustif, commune_code, cog_annee, periode_debut, periode_fin,
        source_id, millesime, snapshot_sha256, connue_le
),

jugees as (
    select
        converties.*,
        case
            when converties.calcul_type = 'valeur' then 'valeur non convertible : la commune a fusionné ou s''est scindée depuis'
            when converties.calcul_type = 'moyenne_ponderee' then null
            when converties.exhaustif then null
            when converties.renseignees < converties.presentes then 'une commune d''origine est sans valeur'
            when converties.par_arrondissement = 0 and converties.presentes < origines.attendues then 'une commune d''origine manque dans le fichier'
        end as motif
    from converties
    left join origines_attendues as origines
        on origines.cog_annee = converties.cog_annee and origines.commune_code = converties.commune_code
),

autres as (
    select
        composante.*,
        case when au_pivot.territoire_code is not null then {{ var('cog_pivot') }} else ancien.cog_annee end as cog_retenu
    from {{ ref('int_composante') }} as composante
    left join {{ ref('dim_territoire') }} as au_pivot
        on au_pivot.territoire_niveau = composante.territoire_niveau
        and au_pivot.territoire_code = composante.territoire_code
        and au_pivot.cog_annee = {{ var('cog_pivot') }}
    left join (
        select territoire_niveau, territoire_code, max(cog_annee) as cog_annee
        from {{ ref('dim_territoire') }}
        group by territoire_niveau, territoire_code
    ) as ancien
        on ancien.territoire_niveau = composante.territoire_niveau and ancien.territoire_code = composante.territoire_code
    where composante.territoire_niveau <> 'commune'
)

select
    indicateur_id, calcul_type, exhaustif, 'commune' as territoire_niveau, territoire_code, {{ var('cog_pivot') }} as cog_annee,
    periode_debut, periode_fin, numerateur, denominateur, statut_valeur, motif, 'publié' as provenance,
    source_id, millesime, snapshot_sha256, connue_le, mention
from inchangees
union all
select
    indicateur_id, calcul_type, exhaustif, 'commune', commune_code, {{ var('cog_pivot') }}, periode_debut, periode_fin,
    case when motif is null then numerateur end,
    case when motif is null then denominateur end,
    case
        when motif is not null and un_secret = 1 then 'secret'
        when calcul_type = 'valeur' then 'sans objet'
        when motif is not null then 'manquant'
        when part_min < 1 or renseignees < presentes then 'estimé'
        else 'observé'
    end,
    motif, 'converti', source_id, millesime, snapshot_sha256, connue_le, mention
from jugees
where commune_code is not null
union all
select
    indicateur_id, calcul_type, exhaustif, territoire_niveau, territoire_code, cog_retenu, periode_debut, periode_fin,
    numerateur, denominateur, statut_valeur, null,
    case when substring(source_id, 1, 9) = 'interne__' then 'registre' else 'publié' end,
    source_id, millesime, snapshot_sha256, connue_le, mention
from autres
where cog_retenu is not null

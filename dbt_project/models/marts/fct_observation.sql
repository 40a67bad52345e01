with publiees as (
    select
        indicateur_id, calcul_type, territoire_niveau, territoire_code, cog_annee, periode_debut, periode_fin,
        numerateur, denominateur, statut_valeur, motif, provenance, cast(null as {{ type_double() }}) as part_couverte,
        source_id, millesime, snapshot_sha256, connue_le, mention
    from {{ ref('int_composante_pivot') }}
    union all
    select
        indicateur_id, calcul_type, parent_niveau, parent_code, {{ var('cog_pivot') }}, periode_debut, periode_fin,
        case when part_couverte >= {{ var('couverture_minimale') }} then numerateur end,
        case when part_couverte >= {{ var('couverture_minimale') }} then denominateur end,
        case
            when part_couverte is null or part_couverte < {{ var('couverture_minimale') }} then 'manquant'
            when un_estime = 1 then 'estimé'
            when un_provisoire = 1 then 'provisoire'
            else 'observé'
        end,
        case
            when part_couverte is null then 'agrégat refusé : population couverte inconnue'
            when part_couverte < {{ var('couverture_minimale') }}
                then 'agrégat refusé : ' || cast(floor(part_couverte * 100) as {{ dbt.type_int() }}) || ' % de la population couverte, il en faut {{ (var("couverture_minimale") * 100) | int }}'
        end,
        'agrégé', part_couverte, source_id, millesime, snapshot_sha256, connue_le, mention
    from {{ ref('int_agregat') }}
),

calculees as (
    select
        publiees.*,
        indicateur.unite,
        case
            when publiees.calcul_type in ('somme', 'valeur') then publiees.numerateur * coalesce(indicateur.calcul_facteur, 1)
            when publiees.denominateur > 0 then publiees.numerateur / publiees.denominateur * coalesce(indicateur.calcul_facteur, 1)
        end as valeur
    from publiees
    inner join {{ ref('int_indicateur') }} as indicateur on indicateur.indicateur_id = publiees.indicateur_id
),

-- The next version of the same file no longer holds these values, and no other delivery repeats them: they were withdrawn
-- that day. A delivery that never held them (another vintage) withdraws nothing.
retirees as (
    select
        calculees.indicateur_id, calculees.calcul_type, calculees.territoire_niveau, calculees.territoire_code, calculees.cog_annee,
        calculees.periode_debut, calculees.periode_fin,
        cast(null as {{ type_double() }}) as numerateur, cast(null as {{ type_double() }}) as denominateur,
        'manquant' as statut_valeur, 'retirée par le producteur' as motif, calculees.provenance,
        cast(null as {{ type_double() }}) as part_couverte, calculees.source_id, calculees.millesime,
        suivante.snapshot_sha256, suivante.connue_le, calculees.mention, calculees.unite, cast(null as {{ type_double() }}) as valeur
    from calculees
    inner join {{ source('arrivee', 'versions') }} as version
        on version.source_id = calculees.source_id
        and version.millesime = calculees.millesime
        and version.snapshot_sha256 = calculees.snapshot_sha256
        and version.connue_le = calculees.connue_le
    inner join {{ source('arrivee', 'versions') }} as suivante
        on suivante.source_id = version.source_id
        and suivante.millesime = version.millesime
        and suivante.chemin = version.chemin
        and suivante.connue_le = version.remplacee_le
    left join calculees as redite
        on redite.indicateur_id = calculees.indicateur_id
        and redite.territoire_niveau = calculees.territoire_niveau
        and redite.territoire_code = calculees.territoire_code
        and redite.periode_debut = calculees.periode_debut
        and redite.periode_fin = calculees.periode_fin
        and redite.connue_le <= suivante.connue_le
        and (redite.connue_le > calculees.connue_le or (redite.connue_le = calculees.connue_le and redite.millesime > calculees.millesime))
    where redite.indicateur_id is null
),

valuees as (
    select * from calculees
    union all
    select * from retirees
),

-- Only series that were delivered more than once can hold revisions; the others need no sorting.
livraisons as (
    select indicateur_id, territoire_niveau, periode_debut, count(distinct connue_le) as versions
    from valuees
    group by indicateur_id, territoire_niveau, periode_debut
),

a_comparer as (
    select
        valuees.*,
        row_number() over (
            partition by valuees.indicateur_id, valuees.territoire_niveau, valuees.territoire_code, valuees.periode_debut, valuees.periode_fin
            order by valuees.connue_le desc, valuees.millesime desc
        ) as rang,
        lag(valuees.valeur) over (
            partition by valuees.indicateur_id, valuees.territoire_niveau, valuees.territoire_code, valuees.periode_debut, valuees.periode_fin
            order by valuees.connue_le, valuees.millesime
        ) as valeur_precedente,
        lag(valuees.statut_valeur) over (
            partition by valuees.indicateur_id, valuees.territoire_niveau, valuees.territoire_code, valuees.periode_debut, valuees.periode_fin
            order by valuees.connue_le, valuees.millesime
        ) as statut_precedent
    from valuees
    inner join livraisons
        on livraisons.indicateur_id = valuees.indicateur_id
        and livraisons.territoire_niveau = valuees.territoire_niveau
        and livraisons.periode_debut = valuees.periode_debut
    where livraisons.versions > 1
),

-- A new delivery that repeats a value teaches nothing: the value stays known since its first publication (R-REV).
revisions as (
    select
        a_comparer.*,
        row_number() over (
            partition by indicateur_id, territoire_niveau, territoire_code, periode_debut, periode_fin
            order by connue_le desc, millesime desc
        ) as rang_revision
    from a_comparer
    where statut_precedent is null
       or statut_precedent <> statut_valeur
       or coalesce(valeur_precedente, -1e300) <> coalesce(valeur, -1e300)
),

retenues as (
    select
        indicateur_id, territoire_niveau, territoire_code, cog_annee, periode_debut, periode_fin, numerateur, denominateur,
        valeur, unite, statut_valeur, motif, provenance, part_couverte, calcul_type, source_id, millesime, snapshot_sha256, connue_le, mention,
        true as est_derniere_version
    from valuees
    where not exists (
        select 1 from livraisons
        where livraisons.indicateur_id = valuees.indicateur_id
          and livraisons.territoire_niveau = valuees.territoire_niveau
          and livraisons.periode_debut = valuees.periode_debut
          and livraisons.versions > 1
    )
    union all
    select
        indicateur_id, territoire_niveau, territoire_code, cog_annee, periode_debut, periode_fin, numerateur, denominateur,
        valeur, unite, statut_valeur, motif, provenance, part_couverte, calcul_type, source_id, millesime, snapshot_sha256, connue_le, mention,
        rang_revision = 1
    from revisions
)

select
    retenues.indicateur_id,
    retenues.territoire_niveau,
    retenues.territoire_code,
    cast(retenues.cog_annee as {{ dbt.type_int() }}) as cog_annee,
    retenues.periode_debut,
    retenues.periode_fin,
    case when retenues.calcul_type in ('ratio', 'moyenne_ponderee') or retenues.calcul_type = 'somme' then retenues.numerateur end as numerateur,
    retenues.denominateur,
    cast(retenues.valeur as {{ type_double() }}) as valeur,
    retenues.unite,
    case when retenues.valeur is null and retenues.statut_valeur in ('observé', 'estimé', 'provisoire') then 'manquant' else retenues.statut_valeur end as statut_valeur,
    case when retenues.valeur is null and retenues.statut_valeur in ('observé', 'estimé', 'provisoire') then 'dénominateur nul ou absent' else retenues.motif end as motif,
    retenues.provenance,
    retenues.part_couverte,
    coalesce(serie.serie, 1) as serie,
    retenues.source_id,
    retenues.millesime,
    retenues.snapshot_sha256,
    retenues.connue_le,
    retenues.est_derniere_version,
    retenues.mention
from retenues
left join {{ ref('int_serie') }} as serie
    on serie.indicateur_id = retenues.indicateur_id
    and retenues.periode_debut >= serie.date_debut
    and (serie.date_fin is null or retenues.periode_debut < serie.date_fin)

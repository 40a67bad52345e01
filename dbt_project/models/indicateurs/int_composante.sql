{{ config(materialized='view') }}
-- Numerator and denominator of every declared indicator, territory by territory, before any change of geography.
-- A weighted mean becomes a ratio of two sums here, so that everything downstream only adds (R-AGR).
with indicateur as (
    select * from {{ ref('int_indicateur') }} where calcul_type is not null
),

simples as (
    select
        indicateur.indicateur_id, indicateur.calcul_type, coalesce(indicateur.calcul_exhaustif, false) as exhaustif,
        mesure.territoire_niveau, mesure.territoire_code, mesure.cog_annee, mesure.periode_debut, mesure.periode_fin,
        mesure.valeur as numerateur, cast(null as {{ type_double() }}) as denominateur,
        mesure.statut_valeur, mesure.source_id, mesure.millesime, mesure.snapshot_sha256, mesure.connue_le, mesure.ligne,
        mesure.mention
    from {{ ref('int_mesure') }} as mesure
    inner join indicateur on indicateur.calcul_numerateur = mesure.mesure_id and indicateur.calcul_type in ('somme', 'valeur')
),

rapports as (
    select
        indicateur.indicateur_id, indicateur.calcul_type, coalesce(indicateur.calcul_exhaustif, false) as exhaustif,
        haut.territoire_niveau, haut.territoire_code, haut.cog_annee, haut.periode_debut, haut.periode_fin,
        case
            when indicateur.calcul_type = 'moyenne_ponderee' then haut.valeur * bas.valeur
            when bas.valeur is not null then haut.valeur
        end as numerateur,
        case when haut.valeur is not null then bas.valeur end as denominateur,
        case
            when haut.valeur is not null and bas.valeur is not null then haut.statut_valeur
            when haut.valeur is null then haut.statut_valeur
            else coalesce(bas.statut_valeur, 'manquant')
        end as statut_valeur,
        haut.source_id, haut.millesime, haut.snapshot_sha256, haut.connue_le, haut.ligne,
        coalesce(haut.mention, bas.mention) as mention
    from {{ ref('int_mesure') }} as haut
    inner join indicateur
        on indicateur.calcul_numerateur = haut.mesure_id and indicateur.calcul_type in ('ratio', 'moyenne_ponderee')
    left join {{ ref('int_mesure') }} as bas
        on bas.mesure_id = coalesce(indicateur.calcul_denominateur, indicateur.calcul_poids)
        and bas.territoire_niveau = haut.territoire_niveau
        and bas.territoire_code = haut.territoire_code
        and bas.periode_debut = haut.periode_debut
        and bas.periode_fin = haut.periode_fin
        -- Same row of the same file; from another source, its current version.
        and (
            (bas.source_id = haut.source_id and bas.snapshot_sha256 = haut.snapshot_sha256 and bas.ligne = haut.ligne)
            or (bas.source_id <> haut.source_id and bas.actuelle)
        )
)

select * from simples
union all
select * from rapports

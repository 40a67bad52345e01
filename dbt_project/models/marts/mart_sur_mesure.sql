-- The tailor-made protocol by département, région and nation, by year of the request and for all years: 90 % of requests
-- should find their answer locally. The share goes with its numerator, its denominator, its interval and the requests
-- that have no answer yet: it alone says nothing of what was asked and never answered.
with cellule as (
    select * from {{ ref('int_cellule') }}
    where registre = 'demande_ingenierie' and territoire_niveau <> 'perimetre'
),

{%- set comptes = [
    'demandes', 'demandes_reponse_locale', 'demandes_appui_national', 'demandes_closes', 'demandes_sans_suite', 'demandes_en_cours',
    'appuis_nationaux', 'appuis_fragiles', 'appuis_anciens_24m', 'appuis_realises_24m', 'demandes_en_manquement', 'manquements',
] %}

territoires as (
    select
        territoire_niveau, territoire_code, periode,
        min(periode_debut) as periode_debut, max(periode_fin) as periode_fin,
        {%- for compte in comptes %}
        max(case when mesure_id = '{{ compte }}' then valeur end) as {{ compte }},
        {%- endfor %}
        max(mention) as mention
    from cellule
    group by territoire_niveau, territoire_code, periode
),

cible as (
    -- « 90 % (feuille de route 2020, II.c) »: the number before the sign.
    select cast({{ dbt.split_part('cible_publiee', "' %'", 1) }} as {{ type_double() }}) as cible
    from {{ ref('int_indicateur') }}
    where indicateur_id = 'sm_part_reponse_locale'
),

parts as (
    select
        territoires.*, cible.cible, fichier.snapshot_sha256, fichier.connue_le, fichier.millesime,
        100.0 * demandes_reponse_locale / nullif(demandes_closes, 0) as part_reponse_locale,
        100.0 * {{ wilson('demandes_reponse_locale', 'demandes_closes', '-') }} as wilson_bas,
        100.0 * {{ wilson('demandes_reponse_locale', 'demandes_closes', '+') }} as wilson_haut
    from territoires
    inner join {{ ref('int_fichier_registre') }} as fichier
        on fichier.registre = 'demande_ingenierie' and fichier.territoire_niveau = territoires.territoire_niveau
        and fichier.territoire_code = territoires.territoire_code
    left join cible on true
)

select
    parts.territoire_niveau, parts.territoire_code, parts.periode, {{ var('cog_pivot') }} as cog_annee,
    parts.periode_debut, parts.periode_fin,
    {%- for compte in comptes[:6] %}
    cast(parts.{{ compte }} as {{ dbt.type_bigint() }}) as {{ compte }},
    {%- endfor %}
    cast(parts.part_reponse_locale as {{ type_double() }}) as part_reponse_locale,
    cast(parts.demandes_reponse_locale as {{ dbt.type_bigint() }}) as numerateur,
    cast(parts.demandes_closes as {{ dbt.type_bigint() }}) as denominateur,
    cast(parts.wilson_bas as {{ type_double() }}) as wilson_bas,
    cast(parts.wilson_haut as {{ type_double() }}) as wilson_haut,
    parts.cible,
    cast(parts.part_reponse_locale - parts.cible as {{ type_double() }}) as ecart_cible,
    case when parts.demandes_closes > 0 then 'observé' else 'sans objet' end as statut_valeur,
    case when parts.demandes_closes = 0 then 'aucune demande close : la part n''a pas de dénominateur' end as motif,
    delai.mediane as delai_median_interlocuteur_jours,
    cast(delai.evenements as {{ dbt.type_bigint() }}) as delai_designations,
    cast(delai.censures as {{ dbt.type_bigint() }}) as delai_censures,
    delai.motif as delai_motif,
    {%- for compte in comptes[6:8] %}
    cast(parts.{{ compte }} as {{ dbt.type_bigint() }}) as {{ compte }},
    {%- endfor %}
    cast(100.0 * parts.appuis_fragiles / nullif(parts.appuis_nationaux, 0) as {{ type_double() }}) as part_appuis_fragiles,
    {%- for compte in comptes[8:10] %}
    cast(parts.{{ compte }} as {{ dbt.type_bigint() }}) as {{ compte }},
    {%- endfor %}
    cast(100.0 * parts.appuis_realises_24m / nullif(parts.appuis_anciens_24m, 0) as {{ type_double() }}) as part_realises_24m,
    {%- for compte in comptes[10:] %}
    cast(parts.{{ compte }} as {{ dbt.type_bigint() }}) as {{ compte }},
    {%- endfor %}
    'interne__demande_ingenierie' as source_id, parts.millesime, parts.snapshot_sha256, parts.connue_le, parts.mention
from parts
left join {{ ref('int_delai') }} as delai
    on delai.mesure_id = 'delai_interlocuteur' and delai.territoire_niveau = parts.territoire_niveau
    and delai.territoire_code = parts.territoire_code and delai.periode = parts.periode

-- Colleges and schools brought to their commune. The file of results names no commune code: it comes from the file of social
-- position, by the identifier of the establishment. Everything here is a sum, so that a mean is one of pupils or of
-- establishments at any level, never a mean of rates (R-AGR).
with commune as (
    select uai, commune_code, _cog_annee as cog_annee
    from {{ source('depp', 'ips_colleges') }}
    where _actuelle
),

colleges as (
    select
        commune.commune_code,
        coalesce(commune.cog_annee, ivac._cog_annee) as cog_annee,
        cast(ivac.session || '-01-01' as date) as periode_debut,
        cast(ivac.session || '-12-31' as date) as periode_fin,
        ivac._millesime as millesime, ivac._snapshot_sha256 as snapshot_sha256, ivac._connue_le as connue_le, ivac._actuelle as actuelle,
        -- An establishment without commune is told one by one: it is lost to every territory.
        case when commune.commune_code is null then ivac._ligne end as ligne_perdue,
        min(ivac._ligne) as ligne,
        sum(ivac.candidats) as ivac_candidats,
        {{ somme_exacte('ivac.candidats * ivac.taux_reussite / 100.0') }} as ivac_recus,
        {{ somme_exacte('ivac.candidats * ivac.note_ecrit') }} as ivac_points_ecrit,
        sum(case when ivac.valeur_ajoutee is not null then ivac.candidats else 0 end) as ivac_candidats_va,
        {{ somme_exacte('coalesce(ivac.candidats * ivac.valeur_ajoutee, 0)') }} as ivac_points_va,
        sum(case when ivac.taux_acces is not null then ivac.candidats else 0 end) as ivac_candidats_acces,
        {{ somme_exacte('coalesce(ivac.candidats * ivac.taux_acces, 0)') }} as ivac_points_acces
    from {{ source('depp', 'ivac') }} as ivac
    left join commune on commune.uai = ivac.uai
    group by
        commune.commune_code, coalesce(commune.cog_annee, ivac._cog_annee), ivac.session, ivac._millesime, ivac._snapshot_sha256,
        ivac._connue_le, ivac._actuelle, case when commune.commune_code is null then ivac._ligne end
),

positions as (
    {% for table, nom in [('ips_colleges', 'colleges'), ('ips_ecoles', 'ecoles')] -%}
    select
        'depp__{{ table }}' as source_id, 'ips_{{ nom }}' as mesure_id, commune_code, _cog_annee as cog_annee,
        cast(substring(_millesime, 1, 4) || '-09-01' as date) as periode_debut,
        cast(substring(_millesime, 6, 4) || '-08-31' as date) as periode_fin,
        _millesime as millesime, _snapshot_sha256 as snapshot_sha256, _connue_le as connue_le, _actuelle as actuelle,
        min(_ligne) as ligne, count(ips) as nombre, {{ somme_exacte('ips') }} as somme
    from {{ source('depp', table) }}
    where ips is not null
    group by commune_code, _cog_annee, _millesime, _snapshot_sha256, _connue_le, _actuelle
    {%- if not loop.last %}
    union all
    {% endif %}
    {%- endfor %}
),

reunies as (
    {% for mesure in ['ivac_candidats', 'ivac_recus', 'ivac_points_ecrit', 'ivac_candidats_va', 'ivac_points_va', 'ivac_candidats_acces', 'ivac_points_acces'] -%}
    select
        '{{ mesure }}' as mesure_id, commune_code, cog_annee, periode_debut, periode_fin,
        cast({{ mesure }} as {{ type_double() }}) as valeur, 'depp__ivac' as source_id, millesime, snapshot_sha256, connue_le, ligne, actuelle
    from colleges
    union all
    {% endfor -%}
    select
        mesure_id, commune_code, cog_annee, periode_debut, periode_fin, cast(nombre as {{ type_double() }}), source_id, millesime,
        snapshot_sha256, connue_le, ligne, actuelle
    from positions
    union all
    select
        mesure_id || '_somme', commune_code, cog_annee, periode_debut, periode_fin, somme, source_id, millesime, snapshot_sha256,
        connue_le, ligne, actuelle
    from positions
)

select
    mesure_id, 'effectif' as nature, 'commune' as territoire_niveau, commune_code as territoire_code, cog_annee, periode_debut,
    periode_fin, valeur, 'observé' as statut_valeur, source_id, millesime, snapshot_sha256, connue_le, ligne, actuelle
from reunies

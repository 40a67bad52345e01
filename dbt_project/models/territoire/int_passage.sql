-- From a commune code at 1 January of a COG vintage to the pivot vintage, with the share that goes there (R-GEO 3 and 4).
-- A code may move several times: each step takes the next dated event after the last one applied.
with recursive annees as (
    {% for annee in range(var('cog_premier'), var('cog_pivot') + 1) -%}
    select {{ annee }} as cog_annee{% if not loop.last %} union all {% endif %}
    {% endfor %}
),

codes as (
    select code_avant as code from {{ ref('int_evenement_commune') }}
    union
    select code_apres from {{ ref('int_evenement_commune') }}
    union
    select ancien_code from {{ ref('stg_insee__passage') }}
    union
    select commune_code from {{ ref('stg_etalab__communes') }} where type_commune = 'commune-actuelle'
),

-- A code stands at a date unless the next event that names it is the one that creates it.
evenements as (
    select code_avant as code, date_effet, 1 as existait from {{ ref('int_evenement_commune') }}
    union all
    select code_apres, date_effet, 0 from {{ ref('int_evenement_commune') }}
),

existence as (
    select code, date_effet, max(existait) as existait,
        coalesce(lag(date_effet) over (partition by code order by date_effet), cast('1900-01-01' as date)) as depuis
    from evenements
    group by code, date_effet
),

pas_encore as (
    select annees.cog_annee, existence.code
    from annees
    inner join existence
        on existence.existait = 0
        and existence.date_effet > cast(annees.cog_annee || '-01-01' as date)
        and existence.depuis <= cast(annees.cog_annee || '-01-01' as date)
),

chemin as (
    select
        annees.cog_annee,
        codes.code as code_origine,
        codes.code as code_courant,
        cast(annees.cog_annee || '-01-01' as date) as date_courante,
        cast(1.0 as {{ type_double() }}) as part,
        cast('identique' as {{ dbt.type_string() }}) as nature
    from annees
    cross join codes
    where not exists (
        select 1 from pas_encore where pas_encore.cog_annee = annees.cog_annee and pas_encore.code = codes.code
    )
    union all
    select
        chemin.cog_annee,
        chemin.code_origine,
        evenement.code_apres,
        evenement.date_effet,
        chemin.part * evenement.part,
        case when evenement.nature = 'scission' or chemin.nature = 'scission' then 'scission' else 'fusion' end
    from chemin
    inner join {{ ref('int_evenement_commune') }} as evenement
        on evenement.code_avant = chemin.code_courant
        and evenement.date_effet > chemin.date_courante
        and evenement.date_precedente <= chemin.date_courante
),

arrivee as (
    select chemin.*
    from chemin
    inner join {{ ref('stg_etalab__communes') }} as actuelle
        on actuelle.commune_code = chemin.code_courant
        and actuelle.cog_annee = {{ var('cog_pivot') }}
        and actuelle.type_commune = 'commune-actuelle'
    -- Only ends of a path: nothing moves this code afterwards.
    where not exists (
        select 1 from {{ ref('int_evenement_commune') }} as suite
        where suite.code_avant = chemin.code_courant and suite.date_effet > chemin.date_courante
    )
),

-- Municipal arrondissements belong to their commune; they are never added to it (R-GEO 7).
arrondissement_municipal as (
    select annees.cog_annee, arm.commune_code as code_origine, arm.commune_parente as code_courant
    from annees
    cross join {{ ref('stg_etalab__communes') }} as arm
    where arm.type_commune = 'arrondissement-municipal' and arm.cog_annee = {{ var('cog_pivot') }}
),

reunis as (
    select
        cog_annee,
        code_origine,
        code_courant as commune_code,
        {{ somme_exacte('part', 18) }} as part,
        case when max(case when nature = 'scission' then 1 else 0 end) = 1 then 'scission'
             when max(case when nature = 'fusion' then 1 else 0 end) = 1 then 'fusion' else 'identique' end as nature
    from arrivee
    group by cog_annee, code_origine, code_courant
),

-- Codes that existed at 1 January of the vintage: every code that no event had yet created, or that one had.
comptes as (
    select cog_annee, commune_code, count(*) as origines, min(part) as part_min
    from reunis
    group by cog_annee, commune_code
)

select
    cast(reunis.cog_annee as {{ dbt.type_int() }}) as cog_annee,
    reunis.code_origine,
    reunis.commune_code,
    cast(reunis.part as {{ type_double() }}) as part,
    reunis.nature,
    -- The commune stands alone: nothing joined it and nothing left it, so its figures pass as they are.
    comptes.origines = 1 and comptes.part_min = 1 as est_simple
from reunis
inner join comptes on comptes.cog_annee = reunis.cog_annee and comptes.commune_code = reunis.commune_code
union all
select cast(cog_annee as {{ dbt.type_int() }}), code_origine, code_courant, cast(1.0 as {{ type_double() }}), 'arrondissement municipal', false
from arrondissement_municipal

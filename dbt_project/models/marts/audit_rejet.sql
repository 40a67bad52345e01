-- Every row of every source that did not make it, with the reason: unreadable ones, records whose key another file already
-- holds, then codes that resolve to nothing. Only the first are those that the counts of each file call rejected; the others
-- were read and kept.
with lus as (
    select
        'lecture' as etape, source_id, millesime, chemin, snapshot_sha256, cast(ligne as {{ dbt.type_bigint() }}) as ligne, colonne,
        valeur, motif, ligne_gardee
    from {{ source('arrivee', 'rejets') }}
),

listes as (
    select
        'territoire' as etape, liste.source_id, liste.millesime, cast(null as {{ dbt.type_string() }}) as chemin, liste.snapshot_sha256, liste.ligne,
        'code' as colonne, liste.code_origine as valeur,
        case when liste.code_origine is null then 'territoire non renseigné' else 'code inconnu de la table de passage et des EPCI' end as motif,
        true as ligne_gardee
    from {{ ref('int_liste') }} as liste
    where liste.territoire_code is null and liste.actuelle
),

-- Territories first, then their lines: there are a thousand times fewer of them than of measures.
inconnus as (
    select territoires.*
    from (
        select distinct territoire_niveau, territoire_code, cog_annee
        from {{ ref('int_mesure') }}
        where actuelle
    ) as territoires
    left join {{ ref('int_passage') }} as passage
        on territoires.territoire_niveau = 'commune'
        and passage.cog_annee = territoires.cog_annee and passage.code_origine = territoires.territoire_code
    left join (select distinct territoire_niveau, territoire_code from {{ ref('dim_territoire') }}) as territoire
        on territoire.territoire_niveau = territoires.territoire_niveau and territoire.territoire_code = territoires.territoire_code
    where (territoires.territoire_niveau = 'commune' and passage.code_origine is null)
       or (territoires.territoire_niveau <> 'commune' and territoire.territoire_code is null)
),

mesures as (
    select distinct
        'territoire' as etape, mesure.source_id, mesure.millesime, cast(null as {{ dbt.type_string() }}) as chemin,
        mesure.snapshot_sha256, nullif(mesure.ligne, 0) as ligne,
        'code' as colonne, mesure.territoire_code as valeur,
        case
            when mesure.territoire_code is null then 'territoire non renseigné'
            when mesure.territoire_niveau = 'commune' then 'code commune inconnu au millésime ' || mesure.cog_annee || ' du COG'
            else 'territoire (' || mesure.territoire_niveau || ') absent de tous les millésimes en main'
        end as motif,
        true as ligne_gardee
    from {{ ref('int_mesure') }} as mesure
    inner join inconnus
        on inconnus.territoire_niveau = mesure.territoire_niveau
        and coalesce(inconnus.territoire_code, '') = coalesce(mesure.territoire_code, '')
        and coalesce(inconnus.cog_annee, 0) = coalesce(mesure.cog_annee, 0)
    where mesure.actuelle
)

-- A line may speak both in a list and in a measure: it is rejected once.
select reunis.*, {{ mention('reunis.millesime') }} as mention
from (
    select * from lus
    union all
    select 'doublon', source_id, millesime, chemin, snapshot_sha256, ligne, colonne, valeur, motif, true from {{ ref('int_doublon') }}
    union all
    (
        select * from listes
        union
        select * from mesures
    )
) as reunis

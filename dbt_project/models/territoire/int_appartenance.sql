-- For aggregation at the pivot vintage: each base territory, its enclosing territories and its weight.
-- A perimeter is brought down to communes once, so that a commune counts once in it however it belongs (test 10).
with bridge as (
    select * from {{ ref('bridge_territoire') }} where cog_annee = {{ var('cog_pivot') }}
),

communes_de_perimetre as (
    select membre_code as commune_code, parent_code as perimetre_code
    from bridge
    where parent_niveau = 'perimetre' and membre_niveau = 'commune' and valide_au is null
    union
    select enfant.membre_code, perimetre.parent_code
    from bridge as perimetre
    inner join bridge as enfant
        on enfant.membre_niveau = 'commune'
        and enfant.parent_niveau = perimetre.membre_niveau
        and enfant.parent_code = perimetre.membre_code
    where perimetre.parent_niveau = 'perimetre' and perimetre.membre_niveau <> 'commune' and perimetre.valide_au is null
),

liens as (
    select membre_niveau, membre_code, parent_niveau, parent_code from bridge where parent_niveau <> 'perimetre'
    union
    select 'commune', commune_code, 'perimetre', perimetre_code from communes_de_perimetre
)

select
    liens.membre_niveau, liens.membre_code, liens.parent_niveau, liens.parent_code,
    cast(coalesce(membre.population, 0) as {{ type_double() }}) as population
from liens
inner join {{ ref('dim_territoire') }} as membre
    on membre.territoire_niveau = liens.membre_niveau
    and membre.territoire_code = liens.membre_code
    and membre.cog_annee = {{ var('cog_pivot') }}

-- Dated memberships: the parents of each commune, EPCI and named perimeter (many to many).
with communes as (
    select * from {{ ref('dim_territoire') }} where territoire_niveau = 'commune'
),

parents as (
    select territoire_code as membre_code, cog_annee, 'epci' as parent_niveau, epci_code as parent_code from communes
    union all
    select territoire_code, cog_annee, 'arrondissement', arrondissement_code from communes
    union all
    select territoire_code, cog_annee, 'departement', departement_code from communes
    union all
    select territoire_code, cog_annee, 'region', region_code from communes
    union all
    select territoire_code, cog_annee, 'national', 'FR' from communes
    where departement_code in (select departement_code from {{ ref('int_departement') }})
    union all
    select zonages.commune_code, {{ var('cog_pivot') }}, 'zone_emploi', zonages.zone_emploi_code
    from {{ source('insee', 'zonages') }} as zonages
    where zonages._actuelle
)

select
    'commune' as membre_niveau, parents.membre_code, parents.parent_niveau, parents.parent_code, parents.cog_annee,
    cast(null as date) as valide_du, cast(null as date) as valide_au,
    case parents.parent_niveau when 'zone_emploi' then 'insee__zonages' when 'epci' then 'etalab__epci' else 'etalab__communes' end as source_id
from parents
inner join {{ ref('dim_territoire') }} as parent
    on parent.territoire_niveau = parents.parent_niveau
    and parent.territoire_code = parents.parent_code
    and parent.cog_annee = parents.cog_annee

union all
select distinct 'departement', departement_code, 'region', region_code, cog_annee, cast(null as date), cast(null as date), 'etalab__departements'
from {{ ref('dim_territoire') }}
where territoire_niveau = 'departement'

union all
select distinct 'departement', departement_code, 'national', 'FR', cog_annee, cast(null as date), cast(null as date), 'etalab__departements'
from {{ ref('dim_territoire') }}
where territoire_niveau = 'departement' and departement_code in (select departement_code from {{ ref('int_departement') }})

union all
select membre_niveau, membre_code, 'perimetre', perimetre_code, {{ var('cog_pivot') }}, valide_du, valide_au, source_id
from {{ ref('int_perimetre') }}
where membre_niveau is not null

-- What makes two territories comparable, at a fixed date from before the interventions: size, income, past growth, and a
-- class (attraction area and size of a commune; metropolitan or overseas département). Nothing after 2016 enters.
with valeurs as (
    select
        territoire_niveau, territoire_code, indicateur_id, cast(extract(year from periode_debut) as {{ dbt.type_int() }}) as annee,
        valeur
    from {{ ref('fct_observation') }}
    where indicateur_id in ('population_municipale', 'revenu_median')
      and territoire_niveau in ('commune', 'epci', 'departement')
      and est_derniere_version and valeur > 0 and extract(year from periode_debut) <= 2016
),

populations as (
    select
        territoire_niveau, territoire_code,
        max(case when annee = 2016 then valeur end) as population,
        max(case when annee = 2012 then valeur end) as population_avant
    from valeurs
    where indicateur_id = 'population_municipale'
    group by territoire_niveau, territoire_code
),

revenus as (
    select territoire_niveau, territoire_code, {{ moyenne_exacte('valeur') }} as revenu
    from valeurs
    where indicateur_id = 'revenu_median'
    group by territoire_niveau, territoire_code
),

disponibles as (
    select populations.territoire_niveau, count(populations.population_avant) as populations_avant, count(revenus.revenu) as revenus
    from populations
    left join revenus
        on revenus.territoire_niveau = populations.territoire_niveau and revenus.territoire_code = populations.territoire_code
    group by populations.territoire_niveau
)

select
    territoire.territoire_niveau,
    territoire.territoire_code,
    case territoire.territoire_niveau
        when 'commune' then 'aav ' || coalesce(zonage.aav_categorie, '?') || ', taille ' || cast(case
            when populations.population < 500 then 1 when populations.population < 2000 then 2
            when populations.population < 10000 then 3 when populations.population < 50000 then 4 else 5
        end as {{ dbt.type_string() }})
        when 'epci' then case when populations.population < 50000 then 'moins de 50 000 habitants' else '50 000 habitants ou plus' end
        else case when length(territoire.departement_code) = 3 then 'outre-mer' else 'métropole' end
    end as classe,
    ln(populations.population) as log_population,
    -- A characteristic that no territory of the level has (embedded run) tells nobody apart.
    case when disponibles.revenus = 0 then 0 else ln(revenus.revenu) end as log_revenu,
    case when disponibles.populations_avant = 0 then 0 else ln(populations.population / populations.population_avant) end as croissance
from {{ ref('dim_territoire') }} as territoire
inner join populations
    on populations.territoire_niveau = territoire.territoire_niveau and populations.territoire_code = territoire.territoire_code
inner join disponibles on disponibles.territoire_niveau = territoire.territoire_niveau
left join revenus
    on revenus.territoire_niveau = territoire.territoire_niveau and revenus.territoire_code = territoire.territoire_code
left join {{ source('insee', 'zonages') }} as zonage
    on territoire.territoire_niveau = 'commune' and zonage._actuelle and zonage.commune_code = territoire.territoire_code
where territoire.est_pivot

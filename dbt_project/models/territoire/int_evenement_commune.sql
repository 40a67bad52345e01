-- Dated events that move a commune's code, each with the share of the old commune that goes to each new code.
-- Rule R-GEO 4: a split shares counts out by population; the shares use the first population known after it.
with publie as (
    select distinct
        modalite,
        date_effet,
        commune_avant as code_avant,
        commune_apres as code_apres
    from {{ source('insee', 'mouvements') }}
    where _actuelle
      and type_avant = 'COM' and type_apres = 'COM'
      -- 10: change of name only; it moves nobody.
      and modalite <> '10'
),

-- A commune may change its code and merge on the same day (Pont-Farcy, 2018): one event leads to the end of that day.
mouvement as (
    select distinct
        publie.date_effet,
        publie.code_avant,
        coalesce(suite.code_apres, publie.code_apres) as code_apres
    from publie
    left join publie as suite
        on publie.modalite in ('41', '50')
        and suite.modalite not in ('41', '50')
        and suite.date_effet = publie.date_effet
        and suite.code_avant = publie.code_apres
),

-- A code that an event leaves as it is and that no other commune joins or leaves is not an event.
utile as (
    select
        date_effet,
        code_avant,
        code_apres,
        count(*) over (partition by date_effet, code_avant) as destinations
    from mouvement
),

population as (
    select territoire_code, valeur,
        row_number() over (partition by territoire_code order by periode_debut) as rang
    from {{ source('arrivee', 'mesures') }}
    where mesure_id = 'population_municipale' and territoire_niveau = 'commune' and actuelle and valeur is not null
),

pesee as (
    select
        utile.*,
        coalesce(population.valeur, 0) as poids
    from utile
    left join population on population.territoire_code = utile.code_apres and population.rang = 1
),

parts as (
    select
        date_effet, code_avant, code_apres, destinations,
        case
            when destinations = 1 then 1.0
            when sum(poids) over (partition by date_effet, code_avant) > 0
                then poids / sum(poids) over (partition by date_effet, code_avant)
            else 1.0 / destinations
        end as part
    from pesee
),

dates as (
    select code_avant, date_effet, lag(date_effet) over (partition by code_avant order by date_effet) as date_precedente
    from (select distinct code_avant, date_effet from parts) as jours
)

select
    parts.code_avant,
    parts.code_apres,
    parts.date_effet,
    coalesce(dates.date_precedente, cast('1900-01-01' as date)) as date_precedente,
    cast(parts.part as {{ type_double() }}) as part,
    case when parts.destinations > 1 then 'scission' when parts.code_avant <> parts.code_apres then 'fusion ou changement de code' else 'accueil' end as nature
from parts
inner join dates on dates.code_avant = parts.code_avant and dates.date_effet = parts.date_effet

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

-- Before the first of INSEE's movements at hand (the embedded run has none), two successive vintages tell most of them: a commune that became a delegated
-- one joined its parent, a delegated one that became a commune left it. Those that left no trace stay unresolved.
millesimes as (
    select cog_annee, lead(cog_annee) over (order by cog_annee) as suivant
    from (select distinct cog_annee from {{ ref('stg_etalab__communes') }}) as annees
),

actuelle as (
    select commune_code, cog_annee from {{ ref('stg_etalab__communes') }} where type_commune = 'commune-actuelle'
),

deleguee as (
    select commune_code, cog_annee, commune_parente
    from {{ ref('stg_etalab__communes') }}
    where type_commune in ('commune-deleguee', 'commune-associee') and commune_parente <> commune_code
),

changement as (
    select millesimes.cog_annee, millesimes.suivant, actuelle.commune_code as code_avant, deleguee.commune_parente as code_apres
    from millesimes
    inner join actuelle on actuelle.cog_annee = millesimes.cog_annee
    inner join deleguee on deleguee.cog_annee = millesimes.suivant and deleguee.commune_code = actuelle.commune_code
    left join actuelle as reste on reste.cog_annee = millesimes.suivant and reste.commune_code = actuelle.commune_code
    where reste.commune_code is null
    union
    select millesimes.cog_annee, millesimes.suivant, deleguee.commune_parente, deleguee.commune_code
    from millesimes
    inner join deleguee on deleguee.cog_annee = millesimes.cog_annee
    inner join actuelle on actuelle.cog_annee = millesimes.suivant and actuelle.commune_code = deleguee.commune_code
    left join actuelle as avant on avant.cog_annee = millesimes.cog_annee and avant.commune_code = deleguee.commune_code
    where avant.commune_code is null
),

-- The commune that receives or is left goes on under its own code: that too is part of the event.
deduit as (
    select suivant, code_avant, code_apres from changement
    union
    select changement.suivant, actuelle.commune_code, actuelle.commune_code
    from changement
    inner join actuelle
        on actuelle.cog_annee = changement.cog_annee and actuelle.commune_code in (changement.code_avant, changement.code_apres)
    inner join actuelle as apres
        on apres.cog_annee = changement.suivant and apres.commune_code = actuelle.commune_code
),

connu as (
    select modalite, date_effet, code_avant, code_apres from publie
    union all
    select 'déduit', cast(suivant || '-01-01' as date), code_avant, code_apres
    from deduit
    where not exists (select 1 from publie where publie.date_effet <= cast(deduit.suivant || '-01-01' as date))
),

-- A commune may change its code and merge on the same day (Pont-Farcy, 2018): one event leads to the end of that day.
mouvement as (
    select distinct
        connu.date_effet,
        connu.code_avant,
        coalesce(suite.code_apres, connu.code_apres) as code_apres
    from connu
    left join connu as suite
        on connu.modalite in ('41', '50')
        and suite.modalite not in ('41', '50')
        and suite.date_effet = connu.date_effet
        and suite.code_avant = connu.code_apres
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
    select territoire_code, cog_annee, valeur, periode_debut, connue_le, source_id
    from {{ source('arrivee', 'mesures') }}
    where mesure_id = 'population_municipale' and territoire_niveau = 'commune' and actuelle and valeur is not null
),

-- A commune that is split keeps its code: its population counts from the first file that knows the split, else both would
-- be weighed by what they were together. One that no such file has is weighed by the oldest that names it.
peuplee as (
    select
        utile.date_effet, utile.code_avant, utile.code_apres, population.valeur,
        row_number() over (
            partition by utile.date_effet, utile.code_avant, utile.code_apres
            order by
                case when population.cog_annee >= extract(year from utile.date_effet) then 0 else 1 end,
                population.periode_debut, population.connue_le desc, population.source_id
        ) as rang
    from utile
    inner join population on population.territoire_code = utile.code_apres
    where utile.destinations > 1
),

pesee as (
    select
        utile.*,
        coalesce(peuplee.valeur, 0) as poids
    from utile
    left join peuplee
        on peuplee.date_effet = utile.date_effet and peuplee.code_avant = utile.code_avant
        and peuplee.code_apres = utile.code_apres and peuplee.rang = 1
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

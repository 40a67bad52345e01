-- How the places that an intervention reaches stand among comparable ones, indicator by indicator: how many are on the
-- favourable side of the median of their comparables, and moved more favourably since the eve. A comparison, never an effect.
with reunies as (
    select intervention_id, 'commune' as territoire_niveau, commune_code as territoire_code
    from {{ ref('int_commune_traitee') }}
    where date_fin is null
    union
    select fait.intervention_id, lien.membre_niveau, lien.membre_code
    from {{ ref('fct_intervention_territoire') }} as fait
    inner join {{ ref('bridge_territoire') }} as lien
        on fait.territoire_niveau = 'perimetre' and lien.parent_niveau = 'perimetre' and lien.parent_code = fait.territoire_code
        and lien.membre_niveau in ('epci', 'departement') and lien.valide_au is null
    where fait.date_fin is null
    union
    select intervention_id, territoire_niveau, territoire_code
    from {{ ref('fct_intervention_territoire') }}
    where territoire_niveau in ('epci', 'departement') and date_fin is null
),

liens as (
    select distinct intervention_id, indicateur_id from {{ ref('bridge_intervention_indicateur') }}
),

comparees as (
    select
        reunies.intervention_id, situation.indicateur_id, situation.territoire_niveau, indicateur.sens_favorable, situation.periode_fin, situation.mention,
        case when indicateur.sens_favorable = 'baisse' then -1 else 1 end * (situation.valeur - situation.mediane_comparables) as ecart,
        case when indicateur.sens_favorable = 'baisse' then -1 else 1 end
            * (situation.evolution - situation.evolution_mediane_comparables) as ecart_evolution
    from reunies
    inner join {{ ref('mart_situation') }} as situation
        on situation.territoire_niveau = reunies.territoire_niveau and situation.territoire_code = reunies.territoire_code
    inner join liens on liens.intervention_id = reunies.intervention_id and liens.indicateur_id = situation.indicateur_id
    inner join {{ ref('int_indicateur') }} as indicateur on indicateur.indicateur_id = situation.indicateur_id
    where situation.mediane_comparables is not null
)

select
    intervention_id, indicateur_id, territoire_niveau, sens_favorable, max(periode_fin) as periode_fin,
    cast(count(*) as {{ dbt.type_int() }}) as territoires,
    cast(case when sens_favorable <> 'sans_objet' then 100.0 * sum(case when ecart > 0 then 1 else 0 end) / count(*) end as {{ type_double() }}) as part_favorable,
    cast(case
        when sens_favorable <> 'sans_objet' and count(ecart_evolution) > 0
            then 100.0 * sum(case when ecart_evolution > 0 then 1 else 0 end) / count(ecart_evolution)
    end as {{ type_double() }}) as part_evolution_favorable,
    cast(percentile_cont(0.5) within group (order by case when sens_favorable = 'baisse' then -ecart else ecart end) as {{ type_double() }}) as ecart_median,
    cast(percentile_cont(0.5) within group (order by case when sens_favorable = 'baisse' then -ecart_evolution else ecart_evolution end) as {{ type_double() }}) as ecart_evolution_median,
    max(mention) as mention
from comparees
group by intervention_id, indicateur_id, territoire_niveau, sens_favorable

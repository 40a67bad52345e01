-- Unit × year values of every plan that may be estimated: the outcome, transformed as the plan says. A year counts only
-- when all its periods are there (four quarters of a quarterly rate), and no value is filled in.
with plans as (
    select * from {{ ref('int_estimation') }} where motif is null
),

observations as (
    select
        plans.estimation_id, plans.transformation, observation.territoire_code as unite_code,
        cast(extract(year from observation.periode_debut) as {{ dbt.type_int() }}) as annee, observation.valeur
    from {{ ref('fct_observation') }} as observation
    inner join plans
        on plans.indicateur_id = observation.indicateur_id and plans.unite = observation.territoire_niveau
        and ' ; ' || plans.annees || ' ; ' like '% ; ' || cast(extract(year from observation.periode_debut) as {{ dbt.type_string() }}) || ' ; %'
    where observation.est_derniere_version and observation.valeur is not null
),

annuelles as (
    select estimation_id, transformation, unite_code, annee, {{ moyenne_exacte('valeur') }} as valeur, count(*) as periodes
    from observations
    group by estimation_id, transformation, unite_code, annee
),

attendues as (
    select estimation_id, max(periodes) as periodes from annuelles group by estimation_id
)

select
    annuelles.estimation_id, annuelles.unite_code, annuelles.annee, unite.cohorte, unite.place,
    case when annuelles.transformation = 'log' then ln(annuelles.valeur) else annuelles.valeur end as valeur
from annuelles
inner join attendues on attendues.estimation_id = annuelles.estimation_id and attendues.periodes = annuelles.periodes
inner join {{ ref('int_unite') }} as unite
    on unite.estimation_id = annuelles.estimation_id and unite.unite_code = annuelles.unite_code and unite.place <> 'écartée'
where annuelles.transformation <> 'log' or annuelles.valeur > 0

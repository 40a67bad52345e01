-- Effects by year around the start, with a band that holds for all years at once.
select
    resultat.estimation_id, composition, cast(delai as {{ dbt.type_int() }}) as delai, cast(effet as {{ type_double() }}) as effet,
    cast(bas as {{ type_double() }}) as bas, cast(haut as {{ type_double() }}) as haut, cast(traitees as {{ dbt.type_int() }}) as traitees,
    cast(est_reference as boolean) as est_reference,
    plan.mention
from {{ ref('int_impact_evenement') }} as resultat
inner join {{ ref('int_estimation') }} as plan on plan.estimation_id = resultat.estimation_id

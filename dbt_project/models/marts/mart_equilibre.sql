-- How alike treated and control units were before the treatment: the balance table that R-SEL asks for.
select
    resultat.estimation_id, variable, nature, cast(moyenne_traitees as {{ type_double() }}) as moyenne_traitees,
    cast(moyenne_temoins as {{ type_double() }}) as moyenne_temoins, cast(smd_brut as {{ type_double() }}) as smd_brut,
    cast(smd_ajuste as {{ type_double() }}) as smd_ajuste,
    plan.mention
from {{ ref('int_impact_equilibre') }} as resultat
inner join {{ ref('int_estimation') }} as plan on plan.estimation_id = resultat.estimation_id

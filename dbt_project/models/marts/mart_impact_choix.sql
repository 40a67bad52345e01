-- The same effect under other reasonable choices declared beforehand: its range says how much it rests on them.
select
    resultat.estimation_id, choix, cast(effet as {{ type_double() }}) as effet, cast(bas as {{ type_double() }}) as bas,
    cast(haut as {{ type_double() }}) as haut,
    plan.mention
from {{ ref('int_impact_choix') }} as resultat
inner join {{ ref('int_estimation') }} as plan on plan.estimation_id = resultat.estimation_id

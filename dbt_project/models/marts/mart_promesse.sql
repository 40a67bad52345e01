-- The two targets that follow from the roadmap's « chacune des interventions » : all of them measured, and all of them with
-- an effect estimated or the published reason why there is none.
with interventions as (
    select
        intervention_id, intervention_nom,
        case when etat_promesse <> 'non mesurée' then 1 else 0 end as mesuree,
        case when etat_impact <> 'non estimable' then 1 else 0 end as estimee,
        case when etat_impact <> 'non estimable' or coalesce(phrase_impact, '') not in ('', 'non estimable') then 1 else 0 end as expliquee,
        mention
    from {{ ref('mart_tableau_de_bord') }}
),

cibles as (
    select
        1 as rang, 'interventions_mesurees' as cible_id,
        'Interventions mesurées à la fois sur les politiques publiques et sur la vie quotidienne' as libelle,
        sum(mesuree) as numerateur, count(*) as denominateur,
        {{ liste("case when mesuree = 0 then intervention_nom end", "intervention_nom") }} as manquantes,
        max(mention) as mention
    from interventions
    union all
    select
        2, 'interventions_estimees_ou_expliquees',
        'Interventions dont l''effet est estimé, ou dont la raison de ne pas l''estimer est publiée',
        sum(expliquee), count(*), {{ liste("case when expliquee = 0 then intervention_nom end", "intervention_nom") }},
        max(mention)
    from interventions
    union all
    select
        3, 'dont_estimees', 'dont interventions dont l''effet est estimé, que l''on puisse conclure ou non',
        sum(estimee), count(*), cast(null as {{ dbt.type_string() }}), max(mention)
    from interventions
)

select
    cible_id, cast(rang as {{ dbt.type_int() }}) as rang, libelle,
    cast(numerateur as {{ dbt.type_int() }}) as numerateur,
    cast(denominateur as {{ dbt.type_int() }}) as denominateur,
    cast(100.0 * numerateur / denominateur as {{ type_double() }}) as part,
    cast(case when rang < 3 then 100 end as {{ type_double() }}) as cible,
    manquantes, mention
from cibles

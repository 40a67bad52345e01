-- Median delays with right censoring, at each published level, for each year of departure and for all years together.
-- A median of medians would be wrong: each level starts again from its subjects.
with sujets as (
    {{ aux_niveaux_publies(ref('int_duree'), ['mesure_id', 'annee', 'duree', 'evenement', 'mention']) }}
),

par_periode as (
    select mesure_id, territoire_niveau, territoire_code, cast(annee as {{ dbt.type_string() }}) as periode, annee, duree, evenement, mention
    from sujets
    union all
    select mesure_id, territoire_niveau, territoire_code, 'toutes', null, duree, evenement, mention
    from sujets
),

medianes as (
    {{ mediane_kaplan_meier('par_periode', ['mesure_id', 'territoire_niveau', 'territoire_code', 'periode', 'annee']) }}
)

select
    mesure_id, territoire_niveau, territoire_code, periode, annee, effectif, evenements, effectif - evenements as censures,
    cast(mediane as {{ type_double() }}) as mediane,
    case when mediane is null
        then 'médiane non atteinte : l''événement n''est connu que pour ' || cast(evenements as {{ dbt.type_string() }}) || ' cas sur '
            || cast(effectif as {{ dbt.type_string() }})
    end as motif,
    mention
from medianes

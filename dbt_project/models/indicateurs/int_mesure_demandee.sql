-- Internal measures that the catalogue asks for, and those that are measured on no object: others are not computed.
-- A measure reported by actions means what the calculation of its indicator makes of it.
with citees as (
    select calcul_numerateur as mesure_id, calcul_type, unite, calcul_niveaux from {{ ref('int_indicateur') }}
    union all
    select calcul_denominateur, calcul_type, unite, calcul_niveaux from {{ ref('int_indicateur') }}
    union all
    select calcul_poids, calcul_type, unite, calcul_niveaux from {{ ref('int_indicateur') }}
),

internes as (
    select
        mesure_id,
        min(calcul_type) as calcul_type,
        min(unite) as unite,
        max(case when calcul_niveaux like '%perimetre%' then 1 else 0 end) as au_perimetre
    from citees
    where {{ registre_de_la_mesure('mesure_id') }} is not null
    group by mesure_id
),

sans_objet as (
    {% for famille, faits in var('familles_internes').items() if not faits.get('objet') -%}
    select '{{ famille }}' as mesure_id
    {% if not loop.last %}union all{% endif %}
    {% endfor %}
),

-- How many cases stand behind a median or a mean is a measure too.
effectifs as (
    {% for famille, effectif in var('effectifs_internes').items() if var('familles_internes')[famille].get('objet') -%}
    select {{ dbt.concat(["'" ~ effectif ~ "'", "substring(mesure_id, " ~ (famille | length + 1) ~ ", 200)"]) }} as mesure_id, au_perimetre
    from internes
    where {{ de_la_famille('mesure_id', famille) }}
    union all
    {% endfor -%}
    select {{ dbt.concat(["'action_lignes'", "substring(mesure_id, " ~ ('action_quantite' | length + 1) ~ ", 200)"]) }}, au_perimetre
    from internes
    where {{ de_la_famille('mesure_id', 'action_quantite') }} and calcul_type = 'valeur'
),

toutes as (
    select mesure_id, calcul_type, unite, au_perimetre from internes
    union all
    select mesure_id, null, null, 0 from sans_objet
    union all
    select mesure_id, null, null, au_perimetre from effectifs
)

select
    mesure_id,
    {{ registre_de_la_mesure('mesure_id') }} as registre,
    case
        {%- for famille, faits in var('familles_internes').items() %}
        when {{ de_la_famille('mesure_id', famille) }} then '{{ faits.unite }}'
        {%- endfor %}
    end as unite_protegee,
    case
        {%- for famille, faits in var('familles_internes').items() %}
        when {{ de_la_famille('mesure_id', famille) }} then
            {%- if famille == 'action_quantite' %} case
                when max(calcul_type) = 'moyenne_ponderee' then 'moyenne'
                when max(calcul_type) = 'valeur' then 'mediane'
                when max(unite) like '%€%' then 'montant'
                else 'effectif'
            end
            {%- elif famille == 'action_reference' %} case when max(unite) like '%/€%' then 'montant' else 'effectif' end
            {%- else %} '{{ faits.nature }}'
            {%- endif %}
        {%- endfor %}
    end as nature,
    max(calcul_type) as calcul_type,
    max(au_perimetre) as au_perimetre
from toutes
where mesure_id is not null
group by mesure_id

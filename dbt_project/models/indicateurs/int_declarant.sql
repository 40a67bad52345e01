-- Who keeps which register: a département that sent at least one row of a kind speaks for its whole territory, and what
-- it does not mention is a zero; one that sent none is missing (R-MAN). A register of the agency itself speaks for all,
-- and who keeps the register of conventions without having one that money or criteria hang on has nothing more to send.
with lignes as (
    {% for nom in cles_des_registres() -%}
    {%- if nom in var('registres_nationaux') %}
    select '{{ nom }}' as registre, departement_code
    from {{ ref('int_departement') }}
    where exists (select 1 from {{ ref('stg_interne__' ~ nom) }})
    {%- else %}
    select distinct '{{ nom }}' as registre, departement_code
    from {{ ref('stg_interne__' ~ nom) }}
    {%- endif %}
    {% if not loop.last %}union all{% endif %}
    {% endfor %}
),

sans_objet as (
    select
        convention.departement_code,
        max(case when convention.date_signature is not null then 1 else 0 end) as une_signee,
        max(case when convention.date_signature is not null and intervention.forme in ('pacte_territorial', 'contrat') then 1 else 0 end) as un_contrat
    from {{ ref('int_convention') }} as convention
    inner join {{ ref('dim_intervention') }} as intervention on intervention.intervention_id = convention.intervention_id
    group by convention.departement_code
)

select registre, departement_code from lignes
union
select 'engagement_financier', departement_code from sans_objet where une_signee = 0
union
select 'critere', departement_code from sans_objet where un_contrat = 0

-- How internal measures add up on one territory and period, for the checks of statistical secrecy: the weighted sum of each
-- relation is zero. Complements of published ratios follow from dim_indicateur and are not written here.
{% for nom, somme in var('sommes_internes').items() -%}
select '{{ nom }}' as relation_id, '{{ somme.total }}' as mesure_id, cast(-1 as {{ type_double() }}) as coefficient
union all
{% set dernier = loop.last -%}
{% for partie in somme.parties -%}
select '{{ nom }}', '{{ partie }}', cast(1 as {{ type_double() }})
{% if not (dernier and loop.last) %}union all{% endif %}
{% endfor -%}
{% endfor %}

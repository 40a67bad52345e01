{# dbt.type_float() is a 32-bit FLOAT on DuckDB and Spark; figures need 64 bits everywhere. #}
{% macro type_double() %}{{ return(adapter.dispatch('type_double', 'dernier_kilometre')()) }}{% endmacro %}
{% macro default__type_double() %}double precision{% endmacro %}
{% macro duckdb__type_double() %}double{% endmacro %}
{% macro spark__type_double() %}double{% endmacro %}

{# French words in one cell, in a fixed order so that two builds give the same bytes. #}
{% macro liste(expression, ordre) %}{{ dbt.listagg(expression, "' ; '", "order by " ~ ordre) }}{% endmacro %}

{# The tables keep the schema they declare: one work database, one schema. #}
{% macro generate_schema_name(custom_schema_name, node) %}{{ target.schema }}{% endmacro %}

{# Sum of fractional numbers that does not depend on the order in which threads add them: added as exact decimals.
   Sums of whole numbers need no such care below 2^53. #}
{% macro somme_exacte(expression, decimales=10) -%}
cast(sum(cast({{ expression }} as decimal(38, {{ decimales }}))) as {{ type_double() }})
{%- endmacro %}

{# Mean of fractional numbers, with the same care; fifteen decimals are what a double of this size holds. #}
{% macro moyenne_exacte(expression) -%}
{{ somme_exacte(expression, 15) }} / count({{ expression }})
{%- endmacro %}

{# The three quartiles at once, and one of them (1 to 3). An aggregate for each keeps its own copy of all the values: short of
   memory, DuckDB then wrote tens of gigabytes where this writes nothing. As Postgres and DuckDB say it. #}
{% macro quartiles(expression) %}percentile_cont(array[0.25, 0.5, 0.75]) within group (order by {{ expression }}){% endmacro %}
{% macro quartile(trois, rang) %}{{ trois }}[{{ rang }}]{% endmacro %}

{# True when a nine-digit code bears the key of a SIREN (Luhn): each second digit is doubled and its two digits added,
   which its place in 0516273849 gives. A character that is no digit has no place, and no key. #}
{% macro siren_valide(code) -%}
length({{ code }}) = 9 and coalesce(mod(
    {%- for rang in range(1, 10) %}
    nullif({{ dbt.position("substring(" ~ code ~ ", " ~ rang ~ ", 1)", "'0123456789'" if rang % 2 else "'0516273849'") }}, 0) - 1
    {%- if not loop.last %} + {% endif %}
    {%- endfor %}, 10), 1) = 0
{%- endmacro %}

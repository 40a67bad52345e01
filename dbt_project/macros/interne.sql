{# --- records of the délégués territoriaux ------------------------------------------------------------------------ #}

{# What every published row says that rests on a record of the demonstration world. #}
{% macro demonstration() %}'données de démonstration'{% endmacro %}

{% macro mention(millesime='_millesime') -%}
case when {{ millesime }} = 'demonstration' then {{ demonstration() }} end
{%- endmacro %}

{# Kinds of records and the columns that designate one, as their declared key does. #}
{% macro cles_des_registres() -%}
{{ return({
    'convention': ['convention_id'],
    'action': ['action_id'],
    'engagement_financier': ['engagement_id'],
    'demande_ingenierie': ['demande_id'],
    'evenement_demande': ['demande_id', 'type_evenement', 'date_evenement'],
    'convention_operateur': ['activation_id'],
    'formation': ['session_id'],
    'concertation': ['concertation_id'],
    'incubation': ['programme_id'],
    'critere': ['convention_id', 'critere_famille', 'critere', 'grille_version'],
    'objectif': ['indicateur_id', 'territoire_niveau', 'territoire_code', 'version'],
}) }}
{%- endmacro %}

{# Current rows of a kind of record, ranked within their key: two files may hold the same one. A real record stands
   before one of the demonstration, then the one that was known first. #}
{% macro lignes_de_registre(nom) -%}
select
    lignes.*,
    {{ mention('lignes._millesime') }} as mention,
    row_number() over (
        partition by {{ cles_des_registres()[nom] | join(', ') }}
        order by case when lignes._millesime = 'demonstration' then 1 else 0 end, lignes._connue_le, lignes._snapshot_sha256, lignes._ligne
    ) as rang
from {{ source('interne', nom) }} as lignes
where lignes._actuelle
{%- endmacro %}

{% macro registre(nom) -%}
select * from (
    {{ lignes_de_registre(nom) }}
) as rangees where rang = 1
{%- endmacro %}

{# Day as a French reader writes it; « aucune » where there is none. #}
{% macro jour(expression, absent='aucune') -%}
coalesce(
    substring(cast({{ expression }} as {{ dbt.type_string() }}), 9, 2) || '/' || substring(cast({{ expression }} as {{ dbt.type_string() }}), 6, 2)
    || '/' || substring(cast({{ expression }} as {{ dbt.type_string() }}), 1, 4), '{{ absent }}')
{%- endmacro %}

{% macro annee(expression) -%}
cast(extract(year from {{ expression }}) as {{ dbt.type_int() }})
{%- endmacro %}

{% macro premier_janvier(annee) -%}
cast({{ dbt.concat(["cast(" ~ annee ~ " as " ~ dbt.type_string() ~ ")", "'-01-01'"]) }} as date)
{%- endmacro %}

{% macro fin_decembre(annee) -%}
cast({{ dbt.concat(["cast(" ~ annee ~ " as " ~ dbt.type_string() ~ ")", "'-12-31'"]) }} as date)
{%- endmacro %}

{# True when a measure belongs to one of the families: alone, or followed by the object that it is measured on. #}
{% macro de_la_famille(mesure, famille) -%}
({{ mesure }} = '{{ famille }}' or substring({{ mesure }}, 1, {{ famille | length + 2 }}) = '{{ famille }}__')
{%- endmacro %}

{# Register of the family that an internal measure belongs to; null for any other measure. #}
{% macro registre_de_la_mesure(mesure) -%}
case
    {%- for famille, faits in var('familles_internes').items() %}
    when {{ de_la_famille(mesure, famille) }} then '{{ faits.registre }}'
    {%- endfor %}
end
{%- endmacro %}

{# --- statistics ---------------------------------------------------------------------------------------------------- #}

{# Bound of the 95 % score interval of a proportion (E. B. Wilson, Journal of the American Statistical Association 22,
   1927, p. 209-212): signe is - or +. Null without trials; never outside [0, 1]. #}
{% macro wilson(succes, total, signe) -%}
{%- set z = 1.959963984540054 -%}
{%- set p = "(1.0 * " ~ succes ~ " / nullif(" ~ total ~ ", 0))" -%}
case
    when {{ total }} = 0 then null
    {% if signe == '-' -%} when {{ succes }} = 0 then 0.0 {%- else -%} when {{ succes }} = {{ total }} then 1.0 {%- endif %}
    else (
        {{ p }} + {{ z * z }} / (2.0 * nullif({{ total }}, 0))
        {{ signe }} {{ z }} * sqrt({{ p }} * (1 - {{ p }}) / nullif({{ total }}, 0) + {{ z * z }} / (4.0 * nullif({{ total }}, 0) * nullif({{ total }}, 0)))
    ) / (1 + {{ z * z }} / nullif({{ total }}, 0))
end
{%- endmacro %}

{# Median time to an event when some have not met it yet (E. L. Kaplan, P. Meier, Journal of the American Statistical
   Association 53, 1958, p. 457-481). ``relation`` holds one row per subject: the columns ``cles``, duree (whole days),
   evenement (1 when it happened after duree, 0 when the subject was last seen without it) and mention. Gives, per group:
   effectif, evenements, mention, and mediane, the first day on which at most half are still waiting; null when it never comes.
   The survival is a product, kept as a sum of logarithms; a subject lost on the day of an event was still at risk. #}
{% macro mediane_kaplan_meier(relation, cles) -%}
{%- set groupe = cles | join(', ') -%}
select
    {{ groupe }},
    cast(max(effectif) as {{ dbt.type_bigint() }}) as effectif,
    cast(sum(evenements) as {{ dbt.type_bigint() }}) as evenements,
    max(mention) as mention,
    min(case when exp(log_survie) <= 0.5 + 1e-9 then duree end) as mediane
from (
    select
        {{ groupe }}, duree, evenements, effectif, mention,
        sum(case
            when evenements = 0 then 0.0
            -- The last ones left all meet the event: nobody waits any more.
            when evenements = a_risque then -1e3
            else ln(1.0 - 1.0 * evenements / a_risque)
        end) over (partition by {{ groupe }} order by duree rows between unbounded preceding and current row) as log_survie
    from (
        select
            {{ groupe }}, duree, sum(evenement) as evenements, max(mention) as mention,
            sum(sum(1)) over (partition by {{ groupe }}) as effectif,
            sum(sum(1)) over (partition by {{ groupe }} order by duree desc rows between unbounded preceding and current row) as a_risque
        from {{ relation }}
        group by {{ groupe }}, duree
    ) as jours
) as survie
group by {{ groupe }}
{%- endmacro %}

{# Rows of a relation that has departement_code and region_code, once per level at which internal measures are published.
   Collectivities that are no département of the COG (975, 978...) have no region and stay out of the nation, as in
   dim_territoire. #}
{% macro aux_niveaux_publies(relation, colonnes) -%}
select 'departement' as territoire_niveau, departement_code as territoire_code, {{ colonnes | join(', ') }}
from {{ relation }}
union all
select 'region', region_code, {{ colonnes | join(', ') }}
from {{ relation }}
where region_code is not null
union all
select 'national', 'FR', {{ colonnes | join(', ') }}
from {{ relation }}
where region_code is not null
{%- endmacro %}

{# Calendar years from 2000 to 2049, one row each: no engine agrees with another on how to make a series. #}
{% macro annees_de_calendrier() -%}
select 2000 + 10 * dizaines.n + unites.n as annee
from (select 0 as n {% for n in range(1, 5) %}union all select {{ n }} {% endfor %}) as dizaines
cross join (select 0 as n {% for n in range(1, 10) %}union all select {{ n }} {% endfor %}) as unites
{%- endmacro %}

{# Whether an indicator is a simulated outcome: it exists only as long as the demonstration world does. #}
{% macro est_simule(colonne) -%}
substring({{ colonne }}, 1, 5) = 'demo_'
{%- endmacro %}

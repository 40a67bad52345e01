{# A model whose inputs are those of its last build is left as it is: same rules, same inputs, same rows.

   The key of a build is made of the rules (DK_REGLES, a hash of all the code and of the engines) and of the content of what
   the model reads: the bytes of its landed files (DK_ENTREES) and the rows of its parents, whatever their order. A parent
   that was built again and came out the same thus stops the change there. Without DK_REGLES, every model is built. #}

{% macro empreinte_lignes(relation) %}{{ return(adapter.dispatch('empreinte_lignes', 'dernier_kilometre')(relation)) }}{% endmacro %}

{# Two independent sums of 64-bit hashes and the count: rows in any order, and a change in one of them shows. #}
{% macro duckdb__empreinte_lignes(relation) -%}
select count(*) || '-' || coalesce(sum(hash(lignes)), 0) || '-' || coalesce(sum(hash('sel', lignes)), 0) as contenu from {{ relation }} as lignes
{%- endmacro %}

{% macro empreintes_table() %}{{ return(target.schema ~ '.empreinte_modele') }}{% endmacro %}

{# The marks of all tables as one JSON object: its key and its content by the name of each. #}
{% macro empreintes_connues() %}{{ return(adapter.dispatch('empreintes_connues', 'dernier_kilometre')()) }}{% endmacro %}

{% macro duckdb__empreintes_connues() -%}
select coalesce(json_group_object(modele, json_array(cle, contenu)), '{}') from {{ empreintes_table() }}
{%- endmacro %}

{# What a node holds: landed bytes, rows of a table, or what a view reads. None when it is not known. #}
{% macro contenu(uid, entrees, connus) %}
    {% if uid.startswith('source.') %}{{ return(entrees.get(uid)) }}{% endif %}
    {% set noeud = graph.nodes.get(uid) %}
    {% if noeud is none %}{{ return(none) }}{% endif %}
    {% if noeud.config.materialized != 'view' %}{{ return(connus.get(noeud.name)) }}{% endif %}
    {% set parties = [] %}
    {% for parent in noeud.depends_on.nodes | sort %}{% do parties.append(contenu(parent, entrees, connus)) %}{% endfor %}
    {{ return(none if none in parties else local_md5(parties | join('|'))) }}
{% endmacro %}

{% macro cle_de_construction(entrees, connus) %}
    {% set regles = env_var('DK_REGLES', '') %}
    {% set parties = [regles] %}
    {% for parent in model.depends_on.nodes | sort %}{% do parties.append(contenu(parent, entrees, connus)) %}{% endfor %}
    {{ return(none if not regles or none in parties else local_md5(parties | join('|'))) }}
{% endmacro %}

{% materialization table, adapter="duckdb", supported_languages=['sql', 'python'] %}
    {% set entrees = fromjson(env_var('DK_ENTREES', '{}')) %}
    {% set suivi = env_var('DK_REGLES', '') != '' %}
    {% set connus, cles = {}, {} %}
    {% if suivi %}
        {# One cell: dbt guesses the type of each one that it reads. #}
        {% for nom, (cle, contenu) in fromjson(run_query(empreintes_connues()).rows[0][0]).items() %}
            {% do connus.update({nom: contenu}) %}
            {% do cles.update({nom: cle}) %}
        {% endfor %}
    {% endif %}
    {% set cle = cle_de_construction(entrees, connus) %}
    {% set presente = load_cached_relation(this) %}
    {% if cle is not none and presente is not none and cles.get(model.name) == cle and not config.get('meta', {}).get('toujours') %}
        {% call noop_statement('main', 'INCHANGE', 'INCHANGE', 0) %}{% endcall %}
        {{ return({'relations': [this]}) }}
    {% endif %}
    {# First the mark goes: a build that is cut leaves a table that no key vouches for. #}
    {% if suivi %}
        {% do run_query("delete from " ~ empreintes_table() ~ " where modele = '" ~ model.name ~ "'") %}
    {% endif %}
    {# As the adapter does, but for what is not used here (grants, indexes, foreign keys): a Python model may only be
       submitted by its own materialization, so that of the adapter cannot be called. #}
    {% set cible = this.incorporate(type='table') %}
    {% set intermediaire = make_intermediate_relation(cible) %}
    {{ drop_relation_if_exists(load_cached_relation(intermediaire)) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}
    {% call statement('main', language=model['language']) -%}
        {{- create_table_as(False, intermediaire, compiled_code, model['language']) }}
    {%- endcall %}
    {{ drop_relation_if_exists(presente) }}
    {{ adapter.rename_relation(intermediaire, cible) }}
    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {% do persist_docs(cible, model) %}
    {{ adapter.commit() }}
    {% if cle is not none %}
        {% set contenu_neuf = run_query(empreinte_lignes(this)).rows[0][0] %}
        {% do run_query("insert into " ~ empreintes_table() ~ " values ('" ~ model.name ~ "', '" ~ cle ~ "', '" ~ contenu_neuf ~ "')") %}
    {% endif %}
    {{ return({'relations': [cible]}) }}
{% endmaterialization %}

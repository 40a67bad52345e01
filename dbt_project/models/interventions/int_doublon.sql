-- Records whose key another file of the register already holds: the first known one counts, the others are told.
{% for nom, cle in cles_des_registres().items() -%}
select
    'interne__{{ nom }}' as source_id, _millesime as millesime, cast(null as {{ dbt.type_string() }}) as chemin,
    _snapshot_sha256 as snapshot_sha256, cast(_ligne as {{ dbt.type_bigint() }}) as ligne, '{{ cle[0] }}' as colonne,
    cast({{ cle[0] }} as {{ dbt.type_string() }}) as valeur,
    'un autre fichier du registre porte déjà cette clé ({{ cle | join(", ") }}) : la première connue est gardée' as motif
from (
    {{ lignes_de_registre(nom) }}
) as rangees
where rang > 1
{% if not loop.last %}union all{% endif %}
{% endfor %}

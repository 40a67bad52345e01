"""The models must run elsewhere than on DuckDB: what only one engine understands stays in named macros."""

from __future__ import annotations

import re

import pytest

from ingestion.declarations import PROJECT

MODELS = sorted((PROJECT / "dbt_project").glob("models/**/*.sql")) + sorted((PROJECT / "dbt_project").glob("tests/**/*.sql"))

# What DuckDB accepts and Spark SQL, or standard SQL, does not; with what to write instead.
ONLY_DUCKDB = {
    r"::\s*\w+": "cast(… as …)",
    r"\bgroup\s+by\s+all\b": "name the columns",
    r"\border\s+by\s+all\b": "name the columns",
    r"\bqualify\b": "a window in a subquery, filtered outside",
    r"\bselect\s+distinct\s+on\b": "row_number() in a subquery",
    r"\*\s*(exclude|replace|rename)\s*\(": "name the columns",
    r"\bcolumns\s*\(": "name the columns",
    r"\bunion\s+(all\s+)?by\s+name\b": "columns in the same order",
    r"\b(asof|positional|semi|anti)\s+join\b": "a join on conditions",
    r"\b(string_agg|group_concat|listagg|list|array_agg)\s*\(": "the macro liste(…)",
    r"\b(list|struct|map|array)_\w+\s*\(": "relational SQL",
    r"\[[^\]]*\]\s*(?!\))": "relational SQL",
    r"\b(unnest|read_\w+|generate_series|range)\s*\(": "a source, or a join",
    r"\b(strftime|strptime|datediff|date_diff|dateadd|date_add|last_day|epoch)\s*\(": "dbt.dateadd, dbt.datediff or cast",
    r"\b(try_cast|if|ifnull|nvl|iff)\s*\(": "case … when, or coalesce",
    r"\b(regexp_\w+|ilike|similar\s+to|glob)\b": "like",
    r"\b(arg_max|arg_min|max_by|min_by|any_value|first|last|quantile\w*|median)\s*\(": "row_number() in a subquery",
    r"\b(integer|bigint|double|float|text|varchar|string|hugeint)\s*\)": "dbt.type_…() or type_double()",
    r"\bexcept\s+all\b|\bintersect\s+all\b": "a join",
    r"\blateral\b|\bpivot\b|\bunpivot\b": "relational SQL",
    r"\bfrom\s+\w+\s+select\b": "select … from",
}


def not_portable(sql: str) -> list[str]:
    """Constructs of a model that belong to one engine, each with what to write instead."""
    # Jinja is where engines may differ; comments and texts are not SQL.
    bare = re.sub(r"\{%.*?%\}|\{#.*?#\}|--[^\n]*", " ", sql, flags=re.DOTALL)
    bare = re.sub(r"\{\{.*?\}\}|'(?:[^']|'')*'", " x ", bare, flags=re.DOTALL)
    return [
        f"« {' '.join(found.group(0).split())} » : {instead}"
        for pattern, instead in ONLY_DUCKDB.items()
        if (found := re.search(pattern, bare, flags=re.IGNORECASE))
    ]


def test_there_are_models_to_look_at() -> None:
    assert len(MODELS) > 30


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_a_model_keeps_to_portable_sql(path) -> None:
    assert not not_portable(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "sql",
    [
        "select a::date from t", "select * exclude (a) from t", "select a from t group by all", "from t select a",
        "select a from t qualify row_number() over (order by a) = 1", "select string_agg(a, ',') from t",
        "select cast(a as varchar) from t", "select a from t asof join u using (a)", "select unnest(a) from t",
        "select a[1] from t", "select * from read_csv('x')", "select strftime(a, '%Y') from t",
        "select\n    arg_max(a, b)\nfrom t", "select distinct on (a) a, b from t",
    ],
)  # fmt: skip
def test_the_scan_sees_what_only_duckdb_understands(sql) -> None:
    assert not_portable(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "select 'a::date' as texte from t -- qualify\n", "select cast(a as {{ dbt.type_string() }}) from {{ ref('t') }}",
        "select {{ liste('a', 'a') }} from t", "select cast('2020-01-01' as date), lag(a) over (partition by b order by c) from t",
    ],
)  # fmt: skip
def test_the_scan_lets_portable_sql_pass(sql) -> None:
    assert not not_portable(sql)

"""From the one candidate to its two releases: what authorised evaluators read, and what everybody may.

``work/candidat`` holds the exact tables. Here the rule R-SEC (``orchestration.secret``) says which cells made from
internal records stay hidden, and ``work/candidat_public`` gets the same tables without them: a hidden value is empty, with
the status ``secret``, and so is all that was computed from it. Tables and columns that declare ``diffusion: evaluateurs``
are left out, as are the rejected rows of internal files. What cannot be tied to a known cell is hidden.

Acts of public bodies (nature ``public``) stay in the clear. A mean or a median is no sum: it is hidden where the cases that
stand behind it are (``int_cellule_effectif``), and so is the weighted sum that a mean shows as its numerator.

A model whose columns are measures declares it under ``config.meta.secret``:

- ``periode``: the column of the year, or the two columns of the period;
- ``mesures``: {column: measure}, where ``{column_name}`` stands for the value of another column of the row;
- ``derivees``: {column: [columns it was computed from]};
- ``minimum``: the column without which nothing of the row is shown;
- ``libres``: numeric columns that tell nothing of a cell.

A numeric column that is in none of them, nor in the key, stops the publication.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import duckdb
    import polars as pl

    from ingestion.paths import Home
    from orchestration.secret import Liens

SECRET_TABLE = "audit_secret"
CELLS_TABLE = "secret_cellule"
CELLS_MODEL, RELATIONS_MODEL, CASES_MODEL = "int_cellule", "int_cellule_relation", "int_cellule_effectif"
INCLUSIONS_MODEL = "int_cellule_inclusion"
PUBLIC, MEAN = "public", "moyenne ou médiane"  # natures of cells that the additive system does not hold
NUMERATOR = "numerateur "  # measure of the weighted sum that an indicator shows as the numerator of a mean
CELL_KEY = ["mesure_id", "territoire_niveau", "territoire_code", "periode_debut", "periode_fin"]
EVALUATEURS = "evaluateurs"  # value of the meta key ``diffusion``
INTERNE = "interne__"  # prefix of the sources whose rows are internal records
MOTIF = "secret statistique (R-SEC)"
MOTIF_VERSION = "version antérieure d''un relevé interne : réservée aux évaluateurs"
NUMERIC = {"integer", "bigint", "double"}


class SecretError(RuntimeError):
    """The candidate cannot be made public safely; the French message says what is not declared or not known."""


def meta_of(node: dict[str, Any]) -> dict[str, Any]:
    return (node.get("config") or {}).get("meta") or node.get("meta") or {}


def is_public(node: dict[str, Any]) -> bool:
    return meta_of(node).get("diffusion") != EVALUATEURS


def public_node(node: dict[str, Any]) -> dict[str, Any]:
    """The node as the public release shows it: without the columns kept for evaluators."""
    return node | {"columns": {name: facts for name, facts in node["columns"].items() if is_public(facts)}}


def public_folder(where: Home) -> Path:
    return where.work / "candidat_public"


def evaluators_folder(where: Home) -> Path:
    return where.root / EVALUATEURS


def export_cells(con: duckdb.DuckDBPyConnection, manifest: dict[str, Any], where: Home) -> None:
    """Copies the cells and their relations out of the work database, to ``work/secret``."""
    target = where.work / "secret"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for node in manifest["nodes"].values():
        if node["resource_type"] == "model" and node["name"] in (CELLS_MODEL, RELATIONS_MODEL, CASES_MODEL, INCLUSIONS_MODEL):
            path = (target / f"{node['name']}.parquet").as_posix().replace("'", "''")
            con.execute(f"copy {node['schema']}.{node['name']} to '{path}' (format parquet)")


def derive(where: Home, models: dict[str, dict[str, Any]], keys: dict[str, list[str]]) -> dict[str, int]:
    """Decides what is hidden and writes it beside the exact tables, then the public tables; returns the rows of each.

    ``models``: published models by name. Raises SecretError when a table cannot be made public safely.
    """
    import duckdb

    with duckdb.connect(config={"threads": 2}) as con:
        _exact_views(con, where, list(models))
        _decide(con, where, models)
    return show(where, models, keys, public_folder(where))


def _exact_views(con: duckdb.DuckDBPyConnection, where: Home, names: list[str]) -> None:
    con.execute(f"set temp_directory = '{_quoted(where.work / 'tmp')}'")
    for name in names:
        con.execute(f"create view {name} as select * from read_parquet('{_quoted(where.candidate / 'parquet' / f'{name}.parquet')}')")


def show(where: Home, models: dict[str, dict[str, Any]], keys: dict[str, list[str]], folder: Path) -> dict[str, int]:
    """Writes to ``folder`` the public tables that the exact ones and what was decided of their cells give; equal ones give
    equal bytes. Returns the rows of each.

    Raises SecretError when a table cannot be made public safely.
    """
    import duckdb
    import polars as pl

    exact, public = where.candidate / "parquet", folder / "parquet"
    shutil.rmtree(folder, ignore_errors=True)
    public.mkdir(parents=True)
    told = summary(pl.read_parquet(exact / f"{CELLS_TABLE}.parquet")).drop("primaires", "secondaires")
    told.write_parquet(public / f"{SECRET_TABLE}.parquet", compression="zstd", statistics=False)
    with duckdb.connect(config={"threads": 2}) as con:
        _exact_views(con, where, [*models, CELLS_TABLE])
        con.execute(
            f"create table caches as select mesure_id, territoire_niveau, territoire_code, periode_debut, periode_fin "
            f"from {CELLS_TABLE} where statut in ('primaire', 'secondaire')"
        )
        con.execute(f"create table internes as select distinct mesure_id from {CELLS_TABLE}")
        con.execute(f"create table observations_cachees as {HIDDEN_OBSERVATIONS}")
        rows = {}
        for name, node in models.items():
            if not is_public(node):
                continue
            target = public / f"{name}.parquet"
            query = _public_query(con, name, node, keys.get(name, []))
            if query is None:
                shutil.copyfile(exact / target.name, target)
            else:
                order = ", ".join(f"{c} nulls last" for c in keys.get(name) or public_node(node)["columns"])
                con.execute(
                    f"copy (select {', '.join(public_node(node)['columns'])} from ({query}) order by {order}) "
                    f"to '{_quoted(target)}' (format parquet, compression zstd, row_group_size 122880)"
                )
            rows[name] = _one(con, f"select count(*) from read_parquet('{_quoted(target)}')")
    return rows


def _quoted(path: Path) -> str:
    return path.as_posix().replace("'", "''")


def _one(con: duckdb.DuckDBPyConnection, sql: str) -> int:
    row = con.execute(sql).fetchone()
    return int(row[0]) if row else 0


# --- what is hidden ---------------------------------------------------------------------------------------------


def _decide(con: duckdb.DuckDBPyConnection, where: Home, models: dict[str, dict[str, Any]]) -> None:
    """Writes ``secret_cellule`` and the whole ``audit_secret`` beside the exact tables."""
    import polars as pl

    from orchestration.secret import PUBLIE, Regles, secret, vide

    cells = load_cells(where)
    found = vide()
    if cells.height:
        means = _means(con, where)
        shown = _shown(con, models)
        sums = cells.filter(pl.col("nature") != PUBLIC)
        weighted = means.filter(pl.col("somme").is_not_null()).select(
            pl.concat_str(pl.lit(NUMERATOR), "indicateur_id").alias("mesure_id"), *CELL_KEY[1:], pl.col("somme").alias("valeur"),
            pl.lit("somme pondérée").alias("nature"), "contributeurs", pl.lit(None).cast(pl.Float64).alias("part_dominante"),
            pl.lit(True).alias("montree"), pl.lit(1, pl.Int64).alias("chiffres"),
        )  # fmt: skip
        sums = sums.join(shown, on=CELL_KEY, how="left").with_columns(
            pl.col("montree").fill_null(False), pl.col("chiffres").fill_null(0)
        )
        counted = pl.concat([sums, weighted.select(sums.columns)], how="vertical_relaxed")
        decided = secret(counted, _links(con, where, sums), Regles.declarees(), earlier(where))
        clear = cells.filter(pl.col("nature") == PUBLIC).with_columns(
            pl.lit(PUBLIE).alias("statut"), pl.lit(0.0).alias("haut"), pl.lit(0.0).alias("bas"), pl.lit(False).alias("sans_preuve")
        )
        found = pl.concat([decided, clear, _judged(means, decided)], how="diagonal_relaxed").select(found.columns).cast(dict(found.schema)).sort(CELL_KEY)
    folder = where.candidate / "parquet"
    found.write_parquet(folder / f"{CELLS_TABLE}.parquet", compression="zstd", statistics=False)
    summary(found).write_parquet(folder / f"{SECRET_TABLE}.parquet", compression="zstd", statistics=False)


def _means(con: duckdb.DuckDBPyConnection, where: Home) -> pl.DataFrame:
    """Observed means and medians of internal records, with the measure that counts their cases and how many there are."""
    import polars as pl

    path = where.work / "secret" / f"{CASES_MODEL}.parquet"
    cells = where.work / "secret" / f"{CELLS_MODEL}.parquet"
    if not path.exists():
        return pl.DataFrame(
            schema={
                **dict.fromkeys(("indicateur_id", "effectif_mesure_id", *CELL_KEY[:3]), pl.String), **dict.fromkeys(CELL_KEY[3:], pl.Date),
                "valeur": pl.Float64, "somme": pl.Float64, "contributeurs": pl.Int64,
            }
        )  # fmt: skip
    return pl.DataFrame(
        con.sql(
            "select o.indicateur_id, e.effectif_mesure_id, e.mesure_id, o.territoire_niveau, o.territoire_code, o.periode_debut, o.periode_fin, "
            "o.valeur, case when i.calcul_type = 'moyenne_ponderee' then o.numerateur end as somme, cast(c.valeur as bigint) as contributeurs "
            "from fct_observation as o inner join dim_indicateur as i on i.indicateur_id = o.indicateur_id "
            f"inner join read_parquet('{_quoted(path)}') as e on e.mesure_id = i.calcul_numerateur "
            f"left join read_parquet('{_quoted(cells)}') as c on c.mesure_id = e.effectif_mesure_id and c.territoire_niveau = o.territoire_niveau "
            "and c.territoire_code = o.territoire_code and c.periode_debut = o.periode_debut and c.periode_fin = o.periode_fin "
            "where o.est_derniere_version and o.valeur is not null"
        )
    )


def _judged(means: pl.DataFrame, decided: pl.DataFrame) -> pl.DataFrame:
    """Means and medians as cells of their own: hidden where their cases or their weighted sum are, or are not known."""
    import polars as pl

    from orchestration.secret import NON_MONTRE, PRIMAIRE, PUBLIE

    place = CELL_KEY[1:]
    hidden = decided.filter(~pl.col("statut").is_in([PUBLIE, NON_MONTRE]) | pl.col("regle").is_not_null()).select(CELL_KEY)
    seen = decided.select(CELL_KEY)
    cases = hidden.rename({"mesure_id": "effectif_mesure_id"}).with_columns(pl.lit(True).alias("cas"))
    known = seen.rename({"mesure_id": "effectif_mesure_id"}).with_columns(pl.lit(True).alias("connus"))
    sums = hidden.with_columns(pl.lit(True).alias("somme_cachee"))
    return (
        means.with_columns(pl.concat_str(pl.lit(NUMERATOR), "indicateur_id").alias("pseudo"))
        .join(cases, on=["effectif_mesure_id", *place], how="left")
        .join(known, on=["effectif_mesure_id", *place], how="left")
        .join(sums.rename({"mesure_id": "pseudo"}), on=["pseudo", *place], how="left")
        .with_columns((pl.col("cas").fill_null(False) | pl.col("somme_cachee").fill_null(False) | pl.col("connus").is_null()).alias("cache"))
        .group_by(CELL_KEY)
        .agg(pl.col("valeur").first(), pl.col("cache").any())
        .with_columns(
            pl.lit(MEAN).alias("nature"), pl.when("cache").then(pl.lit(PRIMAIRE)).otherwise(pl.lit(PUBLIE)).alias("statut"),
            pl.when("cache").then(pl.lit("cas sous le seuil, ou masqués")).alias("regle"),
            pl.lit(0.0).alias("haut"), pl.lit(0.0).alias("bas"), pl.lit(False).alias("sans_preuve"),
        )
    )  # fmt: skip


def load_cells(where: Home) -> pl.DataFrame:
    """Cells of internal records as dbt built them; an empty frame when the warehouse has none."""
    import polars as pl

    path = where.work / "secret" / f"{CELLS_MODEL}.parquet"
    if not path.exists():
        return pl.DataFrame()
    kept = [*CELL_KEY, "valeur", "nature", "contributeurs", "part_dominante"]
    return pl.read_parquet(path, columns=kept).with_columns(pl.col("valeur").cast(pl.Float64), pl.col("contributeurs").cast(pl.Int64))


def summary(cells: pl.DataFrame) -> pl.DataFrame:
    """``audit_secret``: shown and hidden cells of each measure and level, no value."""
    import polars as pl

    from orchestration.secret import NON_MONTRE, PRIMAIRE, SECONDAIRE

    statut = pl.col("statut")
    return (
        cells.filter((statut != NON_MONTRE) & (pl.col("nature") != PUBLIC))
        .group_by("mesure_id", "territoire_niveau")
        .agg(
            pl.len().cast(pl.Int64).alias("cellules"),
            statut.is_in([PRIMAIRE, SECONDAIRE]).sum().cast(pl.Int64).alias("masquees"),
            statut.is_in([PRIMAIRE, SECONDAIRE]).mean().alias("part_masquee"),
            (statut == PRIMAIRE).sum().cast(pl.Int64).alias("primaires"),
            (statut == SECONDAIRE).sum().cast(pl.Int64).alias("secondaires"),
        )
        .sort("mesure_id", "territoire_niveau")
    )


def earlier(where: Home) -> list[pl.DataFrame]:
    """What each earlier public release showed and hid, from its evaluators' side; equal ones once.

    Raises SecretError when a public release with internal cells has lost its evaluators' side: nobody could tell any
    more what its readers know.
    """
    import polars as pl

    from orchestration.release import on_disk, sha256_file

    found: dict[str, pl.DataFrame] = {}
    for name in on_disk(where):  # what a killed publication left may yet be put in service
        path = evaluators_folder(where) / name / "parquet" / f"{CELLS_TABLE}.parquet"
        public = where.releases / name / "parquet" / f"{SECRET_TABLE}.parquet"
        if path.exists():
            if (digest := sha256_file(path)) not in found:
                found[digest] = pl.read_parquet(path)
        elif public.exists() and pl.scan_parquet(public).select(pl.len()).collect().item():
            raise SecretError(
                f"la publication {name} n'a plus sa version pour évaluateurs : ce que ses lecteurs savent ne peut plus être "
                f"comparé. La rétablir dans {EVALUATEURS}/ depuis une sauvegarde, ou supprimer aussi {name} de releases/"
            )
    # The additive system only: acts of public bodies and means have no relation to take part in.
    return [kept for frame in found.values() if (kept := frame.filter(~pl.col("nature").is_in([PUBLIC, MEAN]))).height]


def _shown(con: duckdb.DuckDBPyConnection, models: dict[str, dict[str, Any]]) -> pl.DataFrame:
    """Cells that some public table shows when nothing is hidden, with ``montree`` true and ``chiffres``, how many published
    figures are lost when one is hidden."""
    import polars as pl

    parts = []
    if "fct_observation" in models:
        parts.append(
            "select i.mesure_id, o.territoire_niveau, o.territoire_code, o.periode_debut, o.periode_fin, 1 as chiffres "
            "from fct_observation as o inner join ("
            "select indicateur_id, calcul_numerateur as mesure_id from dim_indicateur union "
            "select indicateur_id, calcul_denominateur from dim_indicateur where calcul_denominateur is not null"
            ") as i on i.indicateur_id = o.indicateur_id"
        )
    for name, node in models.items():
        rules = meta_of(node).get("secret")
        if not rules or not is_public(node):
            continue
        start, end = _period(rules)
        parts += [
            f"select {_measure(measure)}, territoire_niveau, territoire_code, {start}, {end}, {_lost(column, rules)} from {name} as t"
            for column, measure in rules["mesures"].items()
        ]
    place = ", ".join(CELL_KEY[1:])
    return pl.DataFrame(
        con.sql(
            f"select mesure_id, {place}, true as montree, cast(sum(chiffres) as bigint) as chiffres "
            f"from ({' union all '.join(parts)}) group by mesure_id, {place}"
        )
    )


def _lost(column: str, rules: dict[str, Any]) -> int:
    """Columns of a table that are empty when one of its measures is: itself, and what is computed from it or rests on it."""
    derived = rules.get("derivees", {})
    if column == rules.get("minimum"):
        return len(rules["mesures"]) + len(derived)
    return 1 + sum(column in based for based in derived.values())


def _links(con: duckdb.DuckDBPyConnection, where: Home, cells: pl.DataFrame) -> Liens:
    """Hierarchy, part-whole relations and ratios that tie the cells, from the published tables and dbt's relations."""
    import polars as pl

    from orchestration.secret import Liens

    hierarchy = pl.DataFrame(
        con.sql(
            "select distinct b.membre_niveau, b.membre_code, b.parent_niveau, b.parent_code from bridge_territoire as b "
            "where b.membre_niveau in ('departement', 'region') and b.parent_niveau in ('region', 'national') "
            "and b.cog_annee = (select max(cog_annee) from dim_territoire where est_pivot) order by all"
        )
    )
    measures = cells.select("mesure_id").unique()
    ratios = pl.DataFrame(
        con.sql(
            "select distinct calcul_numerateur as numerateur, calcul_denominateur as denominateur from dim_indicateur "
            "where calcul_type = 'ratio' and calcul_denominateur is not null order by all"
        )
    ).join(measures, left_on="numerateur", right_on="mesure_id", how="semi")

    def declared(model: str, schema: dict[str, Any]) -> pl.DataFrame:
        path = where.work / "secret" / f"{model}.parquet"
        return pl.read_parquet(path, columns=list(schema)).cast(schema) if path.exists() else pl.DataFrame(schema=schema)

    return Liens(
        hierarchy,
        declared(RELATIONS_MODEL, {"relation_id": pl.String, "mesure_id": pl.String, "coefficient": pl.Float64}),
        ratios,
        declared(INCLUSIONS_MODEL, {"partie_id": pl.String, "tout_id": pl.String}),
    )


# --- public tables ----------------------------------------------------------------------------------------------


def _period(rules: dict[str, Any]) -> tuple[str, str]:
    """First and last day of the period of a row of the table ``t``: a bare name would be that of the cells it is compared to."""
    period = rules["periode"]
    if isinstance(period, str):
        return f"make_date(t.{period}, 1, 1)", f"make_date(t.{period}, 12, 31)"
    return f"t.{period[0]}", f"t.{period[1]}"


def _measure(template: str) -> str:
    """SQL expression of a measure's identifier, where ``{colonne}`` is the value of that column of the row of the table ``t``."""
    pieces = template.replace("'", "''").replace("{", "' || t.").replace("}", " || '")
    return f"'{pieces}'"


def _public_query(con: duckdb.DuckDBPyConnection, name: str, node: dict[str, Any], key: list[str]) -> str | None:
    """Query of the public rows of a table; None when they are the exact ones, byte for byte."""
    dropped = len(public_node(node)["columns"]) < len(node["columns"])
    if name == "fct_observation":
        internal = _one(con, f"select count(*) from fct_observation where source_id like '{INTERNE}%'")
        return _observations() if internal or _one(con, "select count(*) from observations_cachees") else None
    if name == "mart_avancement":
        return _progress(node) if _one(con, "select count(*) from observations_cachees") else None
    if name == "audit_rejet":
        return f"select * from audit_rejet where source_id not like '{INTERNE}%'"
    if rules := meta_of(node).get("secret"):
        return _wide(name, node, key, rules)
    return f"select * from {name}" if dropped else None


# Observations that rest on a hidden cell, whatever they show (« manquant » for want of a denominator says that it is zero),
# and those of internal records that show something of which nobody knows the cell.
HIDDEN_OBSERVATIONS = f"""
    with concernees as (  -- of no other can any of what follows be true, and they are the most
        select o.*, i.calcul_numerateur, i.calcul_denominateur
        from fct_observation as o
        inner join dim_indicateur as i on i.indicateur_id = o.indicateur_id
        where o.source_id like '{INTERNE}%' or i.calcul_numerateur in (select mesure_id from internes)
            or i.calcul_denominateur in (select mesure_id from internes)
    )

    select distinct o.indicateur_id, o.territoire_niveau, o.territoire_code, o.periode_debut, o.periode_fin
    from concernees as o
    where exists (
        select 1 from caches as c
        where c.mesure_id in (o.calcul_numerateur, o.calcul_denominateur)
          and c.territoire_niveau = o.territoire_niveau and c.territoire_code = o.territoire_code
          and c.periode_debut = o.periode_debut and c.periode_fin = o.periode_fin
    ) or (
        (o.source_id like '{INTERNE}%' or o.calcul_numerateur in (select mesure_id from internes))
        and (o.valeur is not null or o.numerateur is not null or o.denominateur is not null)
        and not exists (
            select 1 from {CELLS_TABLE} as c
            where c.mesure_id = o.calcul_numerateur
              and c.territoire_niveau = o.territoire_niveau and c.territoire_code = o.territoire_code
              and c.periode_debut = o.periode_debut and c.periode_fin = o.periode_fin
        )
    )
"""


def _observations() -> str:
    hidden = "h.indicateur_id is not null"
    stale = f"o.source_id like '{INTERNE}%' and not o.est_derniere_version"
    emptied = ", ".join(f"case when {hidden} or {stale} then null else o.{c} end as {c}" for c in ("valeur", "numerateur", "denominateur"))
    return (
        f"select o.* replace ({emptied}, "
        f"case when {hidden} then 'secret' when {stale} then 'non diffusé' else o.statut_valeur end as statut_valeur, "
        f"case when {hidden} then '{MOTIF}' when {stale} then '{MOTIF_VERSION}' else o.motif end as motif) "
        "from fct_observation as o left join observations_cachees as h "
        "using (indicateur_id, territoire_niveau, territoire_code, periode_debut, periode_fin)"
    )


def _progress(node: dict[str, Any]) -> str:
    """Progress rows whose initial or current value is that of a hidden observation: no number but the target."""
    numbers = [c for c, facts in node["columns"].items() if facts["data_type"] == "double" and c != "valeur_cible"]
    hidden = (
        "exists (select 1 from observations_cachees as h where h.indicateur_id = m.indicateur_id "
        "and h.territoire_niveau = m.territoire_niveau and h.territoire_code = m.territoire_code "
        "and (m.date_actuelle between h.periode_debut and h.periode_fin or m.date_initiale between h.periode_debut and h.periode_fin))"
    )
    emptied = ", ".join(f"case when masquee then null else {c} end as {c}" for c in numbers)
    return (
        f"select * replace ({emptied}, case when masquee then false else cible_deja_atteinte end as cible_deja_atteinte, "
        f"case when masquee then '{MOTIF}' else motif end as motif) from (select m.*, {hidden} as masquee from mart_avancement as m)"
    )


def _wide(name: str, node: dict[str, Any], key: list[str], rules: dict[str, Any]) -> str:
    """A table whose columns are measures: hidden cells emptied, then all that was computed from them."""
    measures, derived = rules["mesures"], rules.get("derivees", {})
    free = {*rules.get("libres", []), *key, *([rules["periode"]] if isinstance(rules["periode"], str) else rules["periode"])}
    unknown = [
        c for c, facts in public_node(node)["columns"].items()
        if facts["data_type"] in NUMERIC and c not in measures and c not in derived and c not in free
    ]  # fmt: skip
    if unknown:
        raise SecretError(
            f"{name} : colonne(s) numérique(s) dont rien ne dit sur quelles mesures elles reposent ({', '.join(unknown)}) ; "
            "les ajouter à config.meta.secret (mesures, derivees ou libres)"
        )
    start, end = _period(rules)
    flags = ", ".join(
        f"exists (select 1 from caches as c where c.mesure_id = {_measure(measure)} and c.territoire_niveau = t.territoire_niveau "
        f"and c.territoire_code = t.territoire_code and c.periode_debut = {start} and c.periode_fin = {end}) "
        f"or (t.{column} is not null and not exists (select 1 from {CELLS_TABLE} as c where c.mesure_id = {_measure(measure)} "
        "and c.territoire_niveau = t.territoire_niveau and c.territoire_code = t.territoire_code "
        f"and c.periode_debut = {start} and c.periode_fin = {end}) and t.{column} <> 0) as cache_{column}"
        for column, measure in measures.items()
    )
    minimum = f"cache_{rules['minimum']} or " if "minimum" in rules else ""
    emptied = [f"case when {minimum}cache_{c} then null else {c} end as {c}" for c in measures]
    emptied += [
        f"case when {minimum}{' or '.join(f'cache_{b}' for b in based)} then null else {c} end as {c}"
        for c, based in derived.items() if c in public_node(node)["columns"]
    ]  # fmt: skip
    any_hidden = " or ".join(f"cache_{c}" for c in measures)
    if "statut_valeur" in node["columns"]:
        emptied.append(f"case when {any_hidden} then 'secret' else statut_valeur end as statut_valeur")
    if "motif" in node["columns"]:
        emptied.append(f"case when {any_hidden} then '{MOTIF}' else motif end as motif")
    return f"select * replace ({', '.join(emptied)}) from (select t.*, {flags} from {name} as t)"


# --- evidence ---------------------------------------------------------------------------------------------------


def redacted(controls: Iterable[dict[str, Any]], models: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Checks as everybody may read them: the verdict stays, what was seen in internal files or closed tables does not.

    How many rows a délégué's file holds is a cell like another, and an example is a row.
    """
    closed = {name for name, node in models.items() if not is_public(node)} | {CELLS_TABLE}
    return [
        control | {"exemples": []} | ({"observe": "", "detail": ""} if control["cible"].startswith(INTERNE) or control["cible"] in closed else {})
        for control in controls
    ]


def shares(folder: Path) -> dict[str, Any]:
    """Cells and shares hidden, from the exact tables of a candidate: overall and by level; ``sans_preuve``: hidden cells that
    nothing protects any more, since an earlier release showed them."""
    import polars as pl

    frame = pl.read_parquet(folder / "parquet" / f"{SECRET_TABLE}.parquet")
    counts = frame.select(pl.col("cellules", "primaires", "secondaires").sum()).to_dicts()[0]
    total = max(counts["cellules"], 1)
    cells = pl.scan_parquet(folder / "parquet" / f"{CELLS_TABLE}.parquet")
    return {
        "sans_preuve": int(cells.select(pl.col("sans_preuve").sum()).collect().item()),
        "cellules": counts["cellules"],
        "part_primaire": round(counts["primaires"] / total, 6),
        "part_secondaire": round(counts["secondaires"] / total, 6),
        "niveaux": {
            row["territoire_niveau"]: {"cellules": row["cellules"], "part_masquee": round(row["masquees"] / row["cellules"], 6)}
            for row in frame.group_by("territoire_niveau").agg(pl.col("cellules", "masquees").sum()).sort("territoire_niveau").to_dicts()
        },
    }

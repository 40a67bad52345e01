"""An attacker reads the published Parquet files, of one release and of two, and finds nothing that is hidden."""

from __future__ import annotations

import datetime as dt
import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from ingestion.paths import Home
from orchestration import diffusion, release
from orchestration.secret import Regles
from tests.integration.conftest import Run, dk, succeeded

CLE = ["mesure_id", "territoire_niveau", "territoire_code", "periode_debut", "periode_fin"]
LIEU = CLE[1:]
SOURCE = "interne__demande_ingenierie"
MARGE = Regles.declarees().marge_effectif


# --- the attacker -----------------------------------------------------------------------------------------------

# What the columns of mart_sur_mesure count, and what every reader of their definitions knows: totals and their parts, and what
# is part of what.
COLUMNS = {
    **{name: name for name in (
        "demandes", "demandes_reponse_locale", "demandes_appui_national", "demandes_closes", "demandes_sans_suite", "demandes_en_cours",
        "appuis_nationaux", "appuis_fragiles", "appuis_anciens_24m", "appuis_realises_24m", "demandes_en_manquement", "manquements",
    )},
    "numerateur": "demandes_reponse_locale", "denominateur": "demandes_closes", "delai_designations": "interlocuteurs_designes",
    "delai_censures": "demandes_sans_interlocuteur",
}  # fmt: skip
WHOLES = {
    "demandes": [
        ["demandes_closes", "demandes_sans_suite", "demandes_en_cours"], ["interlocuteurs_designes", "demandes_sans_interlocuteur"],
    ],
    "demandes_closes": [["demandes_reponse_locale", "demandes_appui_national"]],
}  # fmt: skip
INCLUDED = [
    ("demandes_en_manquement", "demandes"), ("demandes_en_manquement", "manquements"), ("appuis_nationaux", "demandes"),
    ("appuis_fragiles", "appuis_nationaux"), ("appuis_anciens_24m", "appuis_nationaux"), ("appuis_realises_24m", "appuis_anciens_24m"),
    ("operateur_anciennes_24m", "operateur_acceptees"), ("operateur_financees_24m", "operateur_anciennes_24m"),
    ("operateur_anciennes_36m", "operateur_anciennes_24m"), ("operateur_service_36m", "operateur_anciennes_36m"),
    ("actions_achevees", "actions_inscrites"), ("formation_elus_situes", "formation_elus"),
    ("conventions_chef_de_projet", "conventions_suivies"), ("montant_concerte", "montant_engage"), ("montant_etat", "montant_engage"),
    ("montant_paye_cumule", "montant_engage_cumule"), ("montant_favorable_ecologique", "montant_evalue_ecologique"),
    ("jours_valorises", "jours_ingenierie"),
]  # fmt: skip
WHOLE_UNITS = 1_500  # cells of a system above which fractions of units are searched: what they leave possible is more


def shown_cells(folder: Path) -> pl.DataFrame:
    """Cells of internal records as a release shows them: ``CLE`` and ``vue``, empty when hidden."""
    observations = pl.read_parquet(folder / "parquet" / "fct_observation.parquet").filter(
        pl.col("source_id").str.starts_with("interne__")
        & pl.col("est_derniere_version")
        & (pl.col("statut_valeur") != "manquant")
    )
    indicators = pl.read_parquet(folder / "parquet" / "dim_indicateur.parquet").filter(
        pl.col("calcul_type").is_in(["somme", "ratio"])
    )
    parts = [
        observations.join(indicators.select("indicateur_id", pl.col(measure).alias("mesure_id")).drop_nulls(), on="indicateur_id")
        .select(*CLE, pl.col(value).alias("vue"))
        for measure, value in (("calcul_numerateur", "numerateur"), ("calcul_denominateur", "denominateur"))
    ]  # fmt: skip
    requests = pl.read_parquet(folder / "parquet" / "mart_sur_mesure.parquet")
    parts += [
        requests.select(pl.lit(measure).alias("mesure_id"), *LIEU, pl.col(column).cast(pl.Float64).alias("vue"))
        for column, measure in COLUMNS.items()
    ]
    return pl.concat(parts).group_by(CLE).agg(pl.col("vue").max())


class Attacker:
    """Bounds hidden cells from the public files, the hierarchy of territories and what a share is.

    ``exact`` (the evaluators' cells) tells him only which cells a revision left as they were, and the truth to check.
    """

    def __init__(self, *sides: tuple[Path, pl.DataFrame]) -> None:
        frames = []
        for version, (public, exact) in enumerate(sides):
            seen = shown_cells(public).join(
                exact.select(*CLE, "valeur", "nature", "statut", "haut", "bas", "sans_preuve"), on=CLE
            )
            frames.append(seen.with_columns(pl.lit(version).alias("version")))
        self.seen = pl.concat(frames)
        cells = self.seen.group_by(*CLE, "valeur").agg(
            pl.col("vue").max(),
            pl.col("nature").first(),
            pl.col("haut").max(),
            pl.col("bas").max(),
            pl.col("sans_preuve").any(),
            pl.col("statut").is_in(["primaire", "secondaire"]).any().alias("protegee"),
        )
        self.cells = cells.sort(*CLE, "valeur").with_row_index("cellule")
        keyed = self.seen.join(self.cells.select(*CLE, "valeur", "cellule"), on=[*CLE, "valeur"]).select(
            "version", *CLE, "cellule"
        )
        self.free = self.cells["vue"].is_null().to_numpy()
        folder = sides[0][0]
        self.rows: list[pl.DataFrame] = []
        self._territories(keyed, folder)
        self._shares(keyed, folder)
        self._definitions(keyed)
        self._periods(keyed)
        self._solve()

    def _add(self, frame: pl.DataFrame) -> None:
        """``frame``: ligne (key), cellule, poids, egal (false: the sum is at most zero)."""
        self.rows.append(frame.select("ligne", "cellule", pl.col("poids").cast(pl.Float64), "egal"))

    def _territories(self, keyed: pl.DataFrame, folder: Path) -> None:
        links = pl.read_parquet(folder / "parquet" / "bridge_territoire.parquet").filter(
            (pl.col("membre_niveau") == "departement") & pl.col("parent_niveau").is_in(["region", "national"])
            & (pl.col("cog_annee") == pl.col("cog_annee").max())
        ).select("membre_niveau", "membre_code", "parent_niveau", "parent_code").unique()  # fmt: skip
        members = keyed.join(
            links, left_on=["territoire_niveau", "territoire_code"], right_on=["membre_niveau", "membre_code"]
        )
        key = ["version", "mesure_id", "parent_niveau", "parent_code", "periode_debut", "periode_fin"]
        totals = keyed.rename({"territoire_niveau": "parent_niveau", "territoire_code": "parent_code"})
        both = members.join(totals.select(*key, pl.col("cellule").alias("total")), on=key)
        name = pl.concat_str(pl.lit("t"), *key, separator="|").alias("ligne")
        egal = pl.lit(True).alias("egal")
        self._add(both.select(name, "cellule", pl.lit(1).alias("poids"), egal))
        self._add(both.select(name, pl.col("total").alias("cellule"), pl.lit(-1).alias("poids"), egal).unique())

    def _shares(self, keyed: pl.DataFrame, folder: Path) -> None:
        ratios = pl.read_parquet(folder / "parquet" / "dim_indicateur.parquet").filter(pl.col("calcul_type") == "ratio")
        place = ["version", *LIEU]
        truth = keyed.join(self.cells.select("cellule", "valeur", "nature"), on="cellule").filter(
            pl.col("nature") == "effectif"
        )
        for part, whole in ratios.select("calcul_numerateur", "calcul_denominateur").unique().iter_rows():
            pairs = truth.filter(pl.col("mesure_id") == part).join(
                truth.filter(pl.col("mesure_id") == whole), on=place, suffix="_tout"
            )
            if not pairs.height or pairs.select((pl.col("valeur") > pl.col("valeur_tout")).any()).item():
                continue
            name = pl.concat_str(pl.lit(f"p|{part}|{whole}"), *place, separator="|").alias("ligne")
            egal = pl.lit(False).alias("egal")
            self._add(pairs.select(name, "cellule", pl.lit(1).alias("poids"), egal))
            self._add(pairs.select(name, pl.col("cellule_tout").alias("cellule"), pl.lit(-1).alias("poids"), egal))

    def _definitions(self, keyed: pl.DataFrame) -> None:
        place = ["version", *LIEU]
        named = keyed.with_columns(
            pl.col("mesure_id").str.extract(r"^(.*?)(__.*)?$", 1).alias("famille"),
            pl.col("mesure_id").str.extract(r"(__.*)$", 1).fill_null("").alias("objet"),
        )
        for whole, ways in WHOLES.items():
            for parts in ways:
                total = keyed.filter(pl.col("mesure_id") == whole).select(*place, "cellule")
                pieces = keyed.filter(pl.col("mesure_id").is_in(parts))
                complete = total.join(
                    pieces.group_by(place).len().filter(pl.col("len") == len(parts)).select(place), on=place
                )
                name = pl.concat_str(pl.lit(f"d|{whole}|{parts[0]}"), *place, separator="|").alias("ligne")
                self._add(
                    pieces.join(complete.select(place), on=place).select(
                        name, "cellule", pl.lit(1).alias("poids"), pl.lit(True).alias("egal")
                    )
                )
                self._add(complete.select(name, "cellule", pl.lit(-1).alias("poids"), pl.lit(True).alias("egal")))
        for part, whole in INCLUDED:
            both = named.filter(pl.col("famille") == part).join(
                named.filter(pl.col("famille") == whole), on=[*place, "objet"], suffix="_tout"
            )
            name = pl.concat_str(pl.lit(f"i|{part}|{whole}"), "objet", *place, separator="|").alias("ligne")
            self._add(both.select(name, "cellule", pl.lit(1).alias("poids"), pl.lit(False).alias("egal")))
            self._add(
                both.select(
                    name,
                    pl.col("cellule_tout").alias("cellule"),
                    pl.lit(-1).alias("poids"),
                    pl.lit(False).alias("egal"),
                )
            )

    def _periods(self, keyed: pl.DataFrame) -> None:
        """Years add up to the period of all years, for the measures that have one."""
        cle = ["version", *CLE[:3]]
        span = pl.col("periode_fin").dt.year() - pl.col("periode_debut").dt.year()
        whole, years = keyed.filter(span > 0), keyed.filter(span == 0)
        both = years.join(whole.select(*cle, pl.col("cellule").alias("total")), on=cle)
        name = pl.concat_str(pl.lit("a"), *cle, separator="|").alias("ligne")
        self._add(both.select(name, "cellule", pl.lit(1).alias("poids"), pl.lit(True).alias("egal")))
        self._add(
            both.select(
                name, pl.col("total").alias("cellule"), pl.lit(-1).alias("poids"), pl.lit(True).alias("egal")
            ).unique()
        )

    def _solve(self) -> None:
        rows = pl.concat(self.rows).with_columns((pl.col("ligne").rank("dense") - 1).alias("rang"))
        m, n = int(rows["rang"].max() or 0) + 1, self.cells.height
        whole = csr_matrix(
            (rows["poids"].to_numpy(), (rows["rang"].to_numpy(), rows["cellule"].to_numpy())), shape=(m, n)
        )
        self.value = self.cells["valeur"].to_numpy()
        told = np.where(self.free, 0.0, self.value)
        self.right = -(whole @ told)
        self.equal = np.zeros(m, dtype=bool)
        self.equal[rows["rang"].to_numpy()] = rows["egal"].to_numpy()
        self.system = csr_matrix(whole.multiply(self.free[None, :]))
        self.system.eliminate_zeros()
        coo = self.system.tocoo()
        graph = csr_matrix((np.ones(coo.nnz), (coo.row, m + coo.col)), shape=(m + n, m + n))
        _, label = connected_components(graph, directed=False)
        self.row_label, self.label = label[:m], label[m:]

    def by_subtraction(self) -> list[int]:
        """Protected cells that subtractions give, one after the other, without any program."""
        protected = set(self.hidden().tolist())
        found: list[int] = []
        free = self.free.copy()
        equalities = self.system[self.equal]
        pattern = (equalities != 0).astype(np.int64)
        while True:
            alone = np.flatnonzero(pattern @ free.astype(np.int64) == 1)
            cells = np.unique(
                [
                    c
                    for r in alone
                    for c in equalities.indices[equalities.indptr[r] : equalities.indptr[r + 1]]
                    if free[c]
                ]
            )
            if not len(cells):
                return [c for c in found if c in protected]
            found += [int(c) for c in cells]
            free[cells.astype(int)] = False

    def interval(self, cell: int) -> tuple[float, float]:
        columns = np.flatnonzero((self.label == self.label[cell]) & self.free)
        lines = np.flatnonzero(self.row_label == self.label[cell])
        matrix = self.system[lines][:, columns]
        counts = (self.cells["nature"] == "effectif").to_numpy()[columns]
        scale = np.where(counts, 1.0, 1e-3)
        factor = 1e-3 if not counts.all() else 1.0
        right = self.right[lines] * factor
        constraint = LinearConstraint(matrix, np.where(self.equal[lines], right - 1e-9, -np.inf), right + 1e-9)
        at = int(np.searchsorted(columns, cell))
        found = []
        for sign in (1.0, -1.0):
            cost = np.zeros(len(columns))
            cost[at] = sign
            solved = milp(
                cost,
                integrality=counts.astype(int) * (len(columns) <= WHOLE_UNITS),
                bounds=Bounds(0, np.inf),
                constraints=constraint,
            )
            assert solved.status in (0, 3, 4), solved.message
            found.append(float(solved.x[at]) / scale[at] if solved.status == 0 else sign * -np.inf)
        return found[0], found[1]

    def breaches(self, cells: Iterable[int]) -> list[str]:
        told = []
        for cell in cells:
            row = self.cells.row(cell, named=True)
            low, high = self.interval(cell)
            slack = 1e-6 * (1 + row["valeur"])
            assert low <= row["valeur"] + slack and high >= row["valeur"] - slack, (
                f"the attacker's system excludes the truth: {row}"
            )
            if high < row["valeur"] + row["haut"] - slack or low > row["valeur"] - row["bas"] + slack:
                told.append(f"{row} in [{low}, {high}]")
        return told

    def hidden(self) -> np.ndarray:
        """Protected cells that he does not see; what only stands in observations hidden for another's sake is none."""
        given = self.cells.filter(pl.col("protegee") & pl.col("vue").is_not_null() & ~pl.col("sans_preuve"))
        assert given.is_empty(), f"shown as they are: {given}"
        return np.flatnonzero(self.free & self.cells["protegee"].to_numpy() & ~self.cells["sans_preuve"].to_numpy())


# --- a release whose secrets are known --------------------------------------------------------------------------


def requests(where: Home, seed: int, revision: dict[str, int] | None = None) -> pl.DataFrame:
    """Cells of requests by département, région and nation over three years; ``revision`` adds late rows of 2022."""
    links = pl.read_parquet(where.candidate / "parquet" / "bridge_territoire.parquet").filter(
        (pl.col("membre_niveau") == "departement") & (pl.col("cog_annee") == pl.col("cog_annee").max())
    )
    codes = sorted(links.filter(pl.col("parent_niveau") == "national")["membre_code"].unique())
    rng = np.random.default_rng(seed)
    rows = []
    for year in (2021, 2022, 2023):
        whole = rng.poisson(22 * rng.lognormal(0, 0.7, len(codes)))
        part = rng.binomial(whole, 0.86)
        for code, d, n in zip(codes, whole, part, strict=True):
            more = (revision or {}).get(code, 0) if year == 2022 else 0
            rows += [("essai_demandes", code, year, int(d) + more), ("essai_locales", code, year, int(n) + more)]
    base = pl.DataFrame(
        rows, orient="row", schema={"mesure_id": pl.String, "code": pl.String, "annee": pl.Int64, "valeur": pl.Float64}
    )
    levels = [
        base.select(
            "mesure_id",
            pl.lit("departement").alias("territoire_niveau"),
            pl.col("code").alias("territoire_code"),
            "annee",
            "valeur",
        )
    ]
    for level in ("region", "national"):
        joined = base.join(
            links.filter(pl.col("parent_niveau") == level).select("membre_code", "parent_code").unique(),
            left_on="code",
            right_on="membre_code",
        )
        levels.append(
            joined.group_by("mesure_id", "parent_code", "annee").agg(pl.col("valeur").sum())
            .select("mesure_id", pl.lit(level).alias("territoire_niveau"), pl.col("parent_code").alias("territoire_code"), "annee", "valeur")
        )  # fmt: skip
    return pl.concat(levels).with_columns(
        pl.date("annee", 1, 1).alias("periode_debut"), pl.date("annee", 12, 31).alias("periode_fin"),
        pl.lit("effectif").alias("nature"), pl.col("valeur").cast(pl.Int64).alias("contributeurs"), pl.lit(0.0).alias("part_dominante"),
    ).drop("annee").sort(CLE)  # fmt: skip


def plant(where: Home, cells: pl.DataFrame) -> None:
    """Puts cells, and the observations that show them, in the candidate; its other tables stay as they are."""
    folder = where.candidate / "parquet"

    def extend(table: str, rows: pl.DataFrame) -> None:
        frame = pl.read_parquet(folder / f"{table}.parquet")
        missing = [
            pl.lit(None).cast(kind).alias(name) for name, kind in frame.schema.items() if name not in rows.columns
        ]
        new = rows.with_columns(missing).select([pl.col(n).cast(k) for n, k in frame.schema.items()])
        pl.concat([frame, new]).write_parquet(folder / f"{table}.parquet")

    extend("dim_indicateur", pl.DataFrame({
        "indicateur_id": ["essai_demandes", "essai_part"], "libelle": ["Demandes", "Part locale"], "type": ["realisation", "resultat"],
        "calcul_type": ["somme", "ratio"], "calcul_numerateur": ["essai_demandes", "essai_locales"],
        "calcul_denominateur": [None, "essai_demandes"], "calcul_facteur": [None, 100.0], "origine": ["catalogue"] * 2,
    }))  # fmt: skip
    pairs = cells.filter(pl.col("mesure_id") == "essai_locales").join(
        cells.filter(pl.col("mesure_id") == "essai_demandes").select(*LIEU, pl.col("valeur").alias("d")), on=LIEU
    )
    common = {
        "cog_annee": pl.lit(2026), "statut_valeur": pl.lit("observé"), "provenance": pl.lit("publié"), "serie": pl.lit(1),
        "source_id": pl.lit(SOURCE), "millesime": pl.lit("registre"), "snapshot_sha256": pl.lit("0" * 64),
        "connue_le": pl.lit(dt.date(2026, 1, 1)), "est_derniere_version": pl.lit(True),
    }  # fmt: skip
    sums = cells.filter(pl.col("mesure_id") == "essai_demandes").select(
        pl.lit("essai_demandes").alias("indicateur_id"),
        *LIEU,
        pl.col("valeur").alias("numerateur"),
        pl.lit(None).cast(pl.Float64).alias("denominateur"),
        "valeur",
    )
    ratios = pairs.select(
        pl.lit("essai_part").alias("indicateur_id"), *LIEU, pl.col("valeur").alias("numerateur"), pl.col("d").alias("denominateur"),
        pl.when(pl.col("d") > 0).then(100 * pl.col("valeur") / pl.col("d")).alias("valeur"),
    )  # fmt: skip
    rows = pl.concat([sums, ratios]).with_columns(**common)
    rows = rows.with_columns(
        pl.when(pl.col("valeur").is_null()).then(pl.lit("manquant")).otherwise("statut_valeur").alias("statut_valeur")
    )
    # An earlier version of a value that is public today was under the threshold.
    stale = rows.filter((pl.col("indicateur_id") == "essai_demandes") & (pl.col("territoire_niveau") == "national")).head(1).with_columns(
        pl.lit(4.0).alias("valeur"), pl.lit(4.0).alias("numerateur"), pl.lit(False).alias("est_derniere_version"), pl.lit(dt.date(2025, 1, 1)).alias("connue_le")
    )  # fmt: skip
    extend("fct_observation", pl.concat([rows, stale]))
    extend("audit_rejet", pl.DataFrame({
        "source_id": [SOURCE], "millesime": ["registre"], "chemin": ["demande_ingenierie/ardennes.parquet"], "snapshot_sha256": ["0" * 64],
        "ligne": [7], "colonne": ["cout_eur"], "valeur": ["12 O00"], "motif": ["nombre illisible"],
    }))  # fmt: skip
    work = where.work / "secret"
    work.mkdir(exist_ok=True)
    path = work / f"{diffusion.CELLS_MODEL}.parquet"
    found = (
        [cells] if not path.exists() else [pl.read_parquet(path).select(cells.columns).cast(dict(cells.schema)), cells]
    )
    pl.concat(found).write_parquet(path)


def exact_cells(where: Home, name: str) -> pl.DataFrame:
    return pl.read_parquet(release.evaluators_folder(where) / name / "parquet" / "secret_cellule.parquet")


def audited(where: Home) -> list[dict]:
    """Derives and audits the candidate as ``dk run`` does, and returns what did not pass."""
    manifest = release.load_manifest(where)
    diffusion.derive(where, release.published_models(manifest), release.keys_of(manifest))
    return [c for c in release.audit_candidate(where, manifest) if c["resultat"] != "réussi"]


@pytest.fixture
def publiee(candidat: Home) -> tuple[Home, str]:
    """A release with planted requests, published on both sides."""
    plant(candidat, requests(candidat, 5))
    assert audited(candidat) == []
    name, new = release.publish(candidat)
    assert new
    return candidat, name


def test_attacker_of_one_release_finds_nothing(publiee: tuple[Home, str]) -> None:
    where, name = publiee
    cells = exact_cells(where, name)
    attacker = Attacker((where.releases / name, cells))
    mine = attacker.cells["mesure_id"].str.starts_with("essai_").to_numpy()
    hidden = [c for c in attacker.hidden() if mine[c]]
    assert len(hidden) > 100 and attacker.by_subtraction() == []
    assert attacker.breaches(hidden) == []
    shown = cells.filter(pl.col("mesure_id").str.starts_with("essai_"))
    assert 0 < shown["statut"].eq("secondaire").mean() < 0.15


def test_each_hidden_value_is_a_status_in_one_release_and_a_number_in_the_other(publiee: tuple[Home, str]) -> None:
    where, name = publiee
    exact, public = (
        pl.read_parquet(root / name / "parquet" / "fct_observation.parquet")
        for root in (release.evaluators_folder(where), where.releases)
    )
    assert exact.height == public.height
    key = ["indicateur_id", *LIEU, "connue_le", "millesime"]
    both = exact.join(public, on=key, suffix="_public")
    assert both.height == exact.height
    secret = both.filter(pl.col("statut_valeur_public") == "secret")
    assert secret.height > 100
    assert (
        secret.select(pl.col("valeur_public", "numerateur_public", "denominateur_public").is_not_null().any()).row(0)
        == (False,) * 3
    )
    assert secret["motif_public"].unique().to_list() == ["secret statistique (R-SEC)"]
    assert secret["source_id"].str.starts_with("interne__").all()
    # Nothing else changed, but for old versions of internal records.
    others = both.filter((pl.col("statut_valeur_public") != "secret") & pl.col("est_derniere_version"))
    for column in ("valeur", "numerateur", "denominateur", "statut_valeur", "motif"):
        assert others[column].equals(others[f"{column}_public"], null_equal=True), column
    stale = both.filter((pl.col("source_id") == SOURCE) & ~pl.col("est_derniere_version"))
    assert stale.height and stale["valeur"].to_list() == [4.0] and stale["valeur_public"].to_list() == [None]
    # A rate goes with its numerator and its denominator, and none of them is a zero.
    rates = secret.filter(pl.col("indicateur_id") == "essai_part").select(*LIEU)
    cells = exact_cells(where, name)
    masked = cells.filter(
        pl.col("statut").is_in(["primaire", "secondaire"]) & pl.col("mesure_id").str.starts_with("essai_")
    )
    assert rates.join(masked, on=LIEU, how="anti").is_empty()


def test_what_internal_files_hold_stays_out_of_the_public_evidence(publiee: tuple[Home, str]) -> None:
    where, name = publiee
    public, closed = where.releases / name, release.evaluators_folder(where) / name
    rejects = [
        pl.read_parquet(f / "parquet" / "audit_rejet.parquet").filter(pl.col("source_id") == SOURCE)
        for f in (public, closed)
    ]
    assert [frame.is_empty() for frame in rejects] == [True, False]
    assert not (public / "parquet" / "secret_cellule.parquet").exists()
    audit = pl.read_parquet(public / "parquet" / "audit_secret.parquet")
    assert "primaires" not in audit.columns and "valeur" not in audit.columns and audit.height
    for control in json.loads((public / "checks.json").read_text(encoding="utf-8"))["controles"]:
        assert control["exemples"] == []
        if control["cible"].startswith("interne__"):
            assert (control["observe"], control["detail"]) == ("", "")
    notes = (public / "changes.md").read_text(encoding="utf-8")
    evidence = json.loads((public / "checks.json").read_text(encoding="utf-8"))["secret"]
    assert evidence["cellules"] == audit["cellules"].sum() and "## Secret statistique (R-SEC)" in notes
    assert 0 < evidence["part_primaire"] < 1 and 0 < evidence["part_secondaire"] < 0.2


def test_the_two_sides_have_their_own_permissions_whatever_the_umask(candidat: Home) -> None:
    plant(candidat, requests(candidat, 5))
    assert audited(candidat) == []
    before = os.umask(0o000)
    try:
        name, _ = release.publish(candidat)
    finally:
        os.umask(before)
    root = release.evaluators_folder(candidat)
    for path in (root, root / name, *(root / name).rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode & 0o027 == 0 and mode in (0o700, 0o400), f"{path} {mode:o}"
    for path in (candidat.releases / name).rglob("*"):
        if path.is_file():
            assert stat.S_IMODE(path.stat().st_mode) == 0o444


def test_administrator_may_open_the_evaluators_side_to_a_group(candidat: Home) -> None:
    root = release.evaluators_folder(candidat)
    root.chmod(0o757)
    plant(candidat, requests(candidat, 5))
    assert audited(candidat) == []
    name, _ = release.publish(candidat)
    assert stat.S_IMODE(root.stat().st_mode) == 0o750
    assert {stat.S_IMODE(p.stat().st_mode) for p in (root / name).rglob("*")} == {0o750, 0o440}


@pytest.mark.parametrize("late", [{"08": 3}, {"08": 3, "23": 1, "971": 14}])
def test_attacker_of_two_releases_finds_nothing_more(
    late: dict[str, int], publiee: tuple[Home, str], tmp_path: Path
) -> None:
    where, first = publiee
    unpublished = Home(where.root)
    for root, candidate in (
        (release.evaluators_folder(where), where.candidate),
        (where.releases, release.public_folder(where)),
    ):
        (candidate / "parquet").mkdir(parents=True)
        for path in (root / first / "parquet").iterdir():
            (candidate / "parquet" / path.name).write_bytes(path.read_bytes())
    (where.work / "secret" / f"{diffusion.CELLS_MODEL}.parquet").unlink()
    for table, column in (
        ("dim_indicateur", "indicateur_id"),
        ("fct_observation", "indicateur_id"),
        ("audit_rejet", "source_id"),
    ):
        path = where.candidate / "parquet" / f"{table}.parquet"
        frame = pl.read_parquet(path)
        frame.filter(~pl.col(column).str.contains("^(essai_|interne__)")).write_parquet(path)
    plant(unpublished, requests(unpublished, 5, late))
    assert audited(unpublished) == []
    second, new = release.publish(unpublished)
    assert new and second != first
    sides = [(where.releases / n, exact_cells(where, n)) for n in (second, first)]
    attacker = Attacker(*sides)
    hidden = [c for c in attacker.hidden() if attacker.cells["mesure_id"][int(c)].startswith("essai_")]
    assert len(hidden) > 100 and attacker.by_subtraction() == []
    changed = set(
        attacker.seen.group_by(CLE).agg(pl.col("valeur").n_unique()).filter(pl.col("valeur") > 1).select(CLE).rows()
    )
    touched = [c for c in hidden if tuple(attacker.cells.select(CLE).row(int(c))) in changed]
    assert attacker.breaches([*touched, *hidden[:: max(len(hidden) // 150, 1)]]) == []
    secondary = [
        cells.filter(pl.col("mesure_id").str.starts_with("essai_"))["statut"].eq("secondaire").mean()
        for _, cells in sides
    ]
    assert secondary[0] < secondary[1] + 0.03


def test_release_without_its_evaluators_side_stops_the_next_one(publiee: tuple[Home, str]) -> None:
    where, name = publiee
    import shutil

    shutil.rmtree(release.evaluators_folder(where) / name)
    with pytest.raises(diffusion.SecretError, match=f"la publication {name} n'a plus sa version pour évaluateurs"):
        diffusion.earlier(where)


def test_internal_value_that_no_cell_covers_is_hidden(candidat: Home) -> None:
    """Fail closed: a measure of internal records that was forgotten from the cells shows nothing, rather than all."""
    cells = requests(candidat, 5)
    plant(candidat, cells)
    path = candidat.work / "secret" / f"{diffusion.CELLS_MODEL}.parquet"
    forgotten = pl.read_parquet(path).filter(
        ~((pl.col("mesure_id") == "essai_demandes") & (pl.col("territoire_code") == "08"))
    )
    forgotten.write_parquet(path)
    assert audited(candidat) == []
    public = pl.read_parquet(release.public_folder(candidat) / "parquet" / "fct_observation.parquet")
    mine = public.filter((pl.col("indicateur_id") == "essai_demandes") & (pl.col("territoire_code") == "08"))
    assert mine["statut_valeur"].unique().to_list() == ["secret"] and mine["valeur"].null_count() == mine.height


def test_public_table_that_shows_a_hidden_cell_refuses(candidat: Home) -> None:
    plant(candidat, requests(candidat, 5))
    assert audited(candidat) == []
    name = "fct_observation.parquet"
    (release.public_folder(candidat) / "parquet" / name).write_bytes(
        (candidat.candidate / "parquet" / name).read_bytes()
    )
    manifest = release.load_manifest(candidat)
    failed = {c["controle"] for c in release.audit_candidate(candidat, manifest) if c["resultat"] != "réussi"}
    assert failed == {"cellule_cachee_montree", "version_anterieure_montree"}
    with pytest.raises(release.PublicationRefused, match="fct_observation / cellule_cachee_montree échoué"):
        release.publish(candidat)


def test_reader_asks_for_one_side_or_the_other(publiee: tuple[Home, str]) -> None:
    where, name = publiee
    sql = "select count(valeur) as n from fct_observation where indicateur_id = 'essai_demandes'"
    open_side, closed_side = (
        int(succeeded(dk(where.root, "query", sql, "--format", "csv", *more)).split()[1])
        for more in ([], ["--evaluateurs"])
    )
    assert 0 < open_side < closed_side
    refused = dk(where.root, "query", "select * from secret_cellule")
    assert refused.returncode == 2 and "secret_cellule" in refused.stderr
    listed = succeeded(dk(where.root, "releases")).splitlines()
    assert all("évaluateurs" in line for line in listed) and any(line.startswith(f"* {name}") for line in listed)


# --- the demonstration ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demonstration(embedded: Run) -> tuple[Path, Path]:
    """The two sides of the embedded release, that of the demonstration world."""
    assert embedded.code == 0, embedded.output
    public = release.current_release(embedded.home)
    assert public is not None
    return public, release.evaluators_folder(embedded.home) / public.name


def test_attacker_of_the_demonstration_finds_nothing(demonstration: tuple[Path, Path]) -> None:
    public, closed = demonstration
    attacker = Attacker((public, pl.read_parquet(closed / "parquet" / "secret_cellule.parquet")))
    hidden = attacker.hidden()
    assert len(hidden) > 1_000, "the demonstration has internal cells, and small ones"
    assert attacker.by_subtraction() == []
    # One in so many of the small systems, fewer of the one that ties all requests, as a program on it takes seconds; totals
    # more often: hidden, they are the ones that cost most to protect.
    high = np.intersect1d(np.flatnonzero((attacker.cells["territoire_niveau"] != "departement").to_numpy()), hidden)
    size = np.bincount(attacker.label[attacker.free])[attacker.label[hidden]]
    small, big = hidden[size <= WHOLE_UNITS], hidden[size > WHOLE_UNITS]
    chosen = np.unique(
        np.concatenate(
            [small[:: max(len(small) // 600, 1)], np.intersect1d(high, small)[::5], big[:: max(len(big) // 60, 1)]]
        )
    )
    assert attacker.breaches(chosen) == []


def test_demonstration_hides_no_more_than_it_must(demonstration: tuple[Path, Path]) -> None:
    public, closed = demonstration
    evidence = json.loads((closed / "checks.json").read_text(encoding="utf-8"))["secret"]
    assert evidence["part_secondaire"] < 0.05 and evidence["part_primaire"] < 0.35, evidence
    # What leaders read first is there, and every level is.
    assert {level for level, facts in evidence["niveaux"].items() if facts["part_masquee"] < 0.5} >= {
        "departement",
        "region",
        "national",
    }
    requests = pl.read_parquet(public / "parquet" / "mart_sur_mesure.parquet")
    assert requests.filter(pl.col("territoire_niveau") == "national")["part_reponse_locale"].null_count() == 0
    assert (
        requests.filter(pl.col("territoire_niveau") == "departement")["demandes"].null_count() < 0.2 * requests.height
    )
    cells = pl.read_parquet(closed / "parquet" / "secret_cellule.parquet")
    assert not cells["sans_preuve"].any()
    national = cells.filter((pl.col("territoire_niveau") == "national") & (pl.col("statut") != "non montré"))
    assert national["statut"].eq("secondaire").mean() < 0.05


def test_demonstration_says_so_everywhere(demonstration: tuple[Path, Path]) -> None:
    for folder in demonstration:
        assert folder.name.startswith("demo-")
        mark = "données de démonstration"
        assert mark in (folder / "changes.md").read_text(encoding="utf-8").splitlines()[2].lower()
        package = json.loads((folder / "datapackage.json").read_text(encoding="utf-8"))
        assert mark in package["title"] and mark in package["description"].lower() and mark in package["keywords"]
        assert json.loads((folder / "checks.json").read_text(encoding="utf-8"))["mention"] == mark

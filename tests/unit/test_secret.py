"""Statistical secrecy against an attacker who shares no code with it: he reads what is published, and solves."""

from __future__ import annotations

import datetime as dt
import itertools

import numpy as np
import polars as pl
import pytest
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_matrix

from orchestration import secret as rsec
from orchestration.secret import CLE, NON_MONTRE, PRIMAIRE, PUBLIE, SECONDAIRE, Liens, Regles

REGLES = Regles()
MARGE = REGLES.marge_effectif
REGIONS = {
    "11": ["75", "77", "78", "91"],
    "24": ["18", "28", "36"],
    "84": ["01", "03", "07", "15", "26"],
    "01": ["971"],
    "06": ["976"],
}
DEPARTEMENTS = [d for members in REGIONS.values() for d in members]
HIERARCHIE = pl.DataFrame(
    [("departement", d, "region", r) for r, members in REGIONS.items() for d in members]
    + [("departement", d, "national", "FR") for d in DEPARTEMENTS],
    orient="row",
    schema=["membre_niveau", "membre_code", "parent_niveau", "parent_code"],
)
RELATIONS = pl.DataFrame(
    [("issue", "demandes", -1.0), ("issue", "locales", 1.0), ("issue", "nationales", 1.0), ("issue", "en_cours", 1.0)],
    orient="row",
    schema=["relation_id", "mesure_id", "coefficient"],
)
RAPPORTS = pl.DataFrame({"numerateur": ["locales"], "denominateur": ["demandes"]})
LIENS = Liens(HIERARCHIE, RELATIONS, RAPPORTS)
LIEU = list(CLE[1:])


def annee(year: int) -> tuple[dt.date, dt.date]:
    return dt.date(year, 1, 1), dt.date(year, 12, 31)


def world(seed: int, scale: float = 9.0, years: int = 2, cumulated: bool = True, amounts: bool = True) -> pl.DataFrame:
    """Cells of a random world: requests by outcome, and amounts, by territory, by year and over all years."""
    rng = np.random.default_rng(seed)
    weight = rng.lognormal(0, 0.8, len(DEPARTEMENTS))
    base: dict[tuple, float] = {}
    givers: dict[tuple, int] = {}
    for year in range(2021, 2021 + years):
        for d, w in zip(DEPARTEMENTS, weight, strict=True):
            parts = rng.multinomial(rng.poisson(scale * w), [0.75, 0.15, 0.1])
            for name, value in zip(("locales", "nationales", "en_cours"), parts, strict=True):
                base[name, d, year] = float(value)
            base["demandes", d, year] = float(parts.sum())
            if amounts:
                givers["euros", d, year] = int(rng.integers(1, 9))
                base["euros", d, year] = float(np.round(rng.lognormal(11, 1)))
    rows = []
    periods = {year: (year,) for year in range(2021, 2021 + years)} | (
        {0: tuple(range(2021, 2021 + years))} if cumulated else {}
    )
    places = {("departement", d): [d] for d in DEPARTEMENTS}
    places |= {("region", r): members for r, members in REGIONS.items()} | {("national", "FR"): DEPARTEMENTS}
    for name in sorted({key[0] for key in base}):
        for (level, code), members in places.items():
            for covered in periods.values():
                pieces = [base[name, d, y] for d in members for y in covered]
                amount = name == "euros"
                count = sum(givers[name, d, y] for d in members for y in covered) if amount else int(sum(pieces))
                top = max(p / givers["euros", d, y] for d, y, p in zip(
                    [d for d in members for _ in covered], [y for _ in members for y in covered], pieces, strict=True
                )) / max(sum(pieces), 1) if amount else 0.0  # fmt: skip
                rows.append(
                    (name, level, code, annee(covered[0])[0], annee(covered[-1])[1], sum(pieces),
                     "montant" if amount else "effectif", count, min(top, 1.0), True)
                )  # fmt: skip
    schema = [*CLE, "valeur", "nature", "contributeurs", "part_dominante", "montree"]
    return pl.DataFrame(rows, orient="row", schema=schema)


# --- the attacker -----------------------------------------------------------------------------------------------


class Attacker:
    """Reads releases as their public sees them and bounds every hidden cell, whole numbers for counts.

    He knows the territories, that parts add up to their whole, that years add up to their sum, that local answers are
    requests, that nothing is negative, and which cells a revision left as they were.
    """

    def __init__(self, *releases: pl.DataFrame) -> None:
        self.index: dict[tuple, int] = {}
        self.known: dict[int, float] = {}
        self.count: list[bool] = []
        rows: list[dict[int, float]] = []
        for release in releases:
            cells = {tuple(r[n] for n in CLE): r for r in release.filter(pl.col("statut") != NON_MONTRE).to_dicts()}
            for key, row in cells.items():
                i = self.index.setdefault((*key, row["valeur"]), len(self.index))
                if i == len(self.count):
                    self.count.append(row["nature"] == "effectif")
                if row["statut"] == PUBLIE:
                    self.known[i] = row["valeur"]
            at = {key: self.index[(*key, row["valeur"])] for key, row in cells.items()}
            rows += self._relations(at)
        self.rows = rows

    def _relations(self, at: dict[tuple, int]) -> list[dict[int, float]]:
        found = []
        places = {(name, start, end) for name, _, _, start, end in at}
        for name, start, end in places:
            for region, members in REGIONS.items():
                found.append(
                    {at[name, "region", region, start, end]: -1.0}
                    | {at[name, "departement", d, start, end]: 1.0 for d in members}
                )
            found.append(
                {at[name, "national", "FR", start, end]: -1.0}
                | {at[name, "departement", d, start, end]: 1.0 for d in DEPARTEMENTS}
            )
        for name, level, code in {key[:3] for key in at}:
            periods = sorted({key[3:] for key in at if key[:3] == (name, level, code)})
            whole = (min(p[0] for p in periods), max(p[1] for p in periods))
            if len(periods) > 2 and whole in periods:
                found.append(
                    {at[name, level, code, *whole]: -1.0}
                    | {at[name, level, code, *p]: 1.0 for p in periods if p != whole}
                )
        for _, *place in {key for key in at if key[0] == "demandes"}:
            parts = [at.get((n, *place)) for n in ("locales", "nationales", "en_cours")]
            if None not in parts:
                found.append({at["demandes", *place]: -1.0} | dict.fromkeys(parts, 1.0))  # type: ignore[arg-type]
        self.shares = getattr(self, "shares", []) + [
            (at["locales", *key[1:]], at[key]) for key in at if key[0] == "demandes" and ("locales", *key[1:]) in at
        ]
        return found

    def solve(self) -> None:
        """Writes his system once, over the cells that he does not know."""
        n = len(self.index)
        matrix = np.zeros((len(self.rows) + len(self.shares), n))
        for i, row in enumerate(self.rows):
            for j, weight in row.items():
                matrix[i, j] = weight
        for i, (part, whole) in enumerate(self.shares, len(self.rows)):
            matrix[i, part], matrix[i, whole] = 1.0, -1.0
        value = np.array([self.known.get(j, 0.0) for j in range(n)])
        self.free = np.array([j for j in range(n) if j not in self.known])
        kept = np.abs(matrix[:, self.free]).sum(axis=1) > 0
        told = -(matrix @ value)
        bottom = np.where(np.arange(len(matrix)) < len(self.rows), told, -np.inf)
        self.system = LinearConstraint(csr_matrix(matrix[np.ix_(kept, self.free)]), bottom[kept], told[kept])
        self.place = {int(j): i for i, j in enumerate(self.free)}
        self.bounded: dict[int, tuple[float, float]] = {}

    def interval(self, cell: int) -> tuple[float, float]:
        """Smallest and largest value of a cell over all tables that agree with what he read."""
        if not hasattr(self, "system"):
            self.solve()
        if cell in self.bounded:
            return self.bounded[cell]
        found = []
        for sign in (1.0, -1.0):
            cost = np.zeros(len(self.free))
            cost[self.place[cell]] = sign
            solved = milp(
                cost,
                integrality=np.array(self.count, dtype=int)[self.free],
                bounds=Bounds(0, np.inf),
                constraints=self.system,
            )
            assert solved.status in (0, 3, 4), f"the attacker's system has no solution: {solved.message}"
            found.append(float(solved.x[self.place[cell]]) if solved.status == 0 else sign * -np.inf)
        self.bounded[cell] = (found[0], found[1])
        return self.bounded[cell]

    def breaches(self, result: pl.DataFrame, enough: int = 10**9) -> list[str]:
        """Hidden cells of a release that he locates more closely than what is declared; his systems must have a solution."""
        told: list[str] = []
        for row in result.filter(pl.col("statut").is_in([PRIMAIRE, SECONDAIRE]) & ~pl.col("sans_preuve")).to_dicts():
            low, high = self.interval(self.index[(*(row[n] for n in CLE), row["valeur"])])
            slack = 1e-6 * (1 + row["valeur"])
            assert low <= row["valeur"] + slack and high >= row["valeur"] - slack, (
                "the attacker's system excludes the truth"
            )
            if (
                high < row["valeur"] + row["haut"] - slack
                or low > row["valeur"] - row["bas"] + slack
                or high - low < slack
            ):
                told.append(
                    f"{[row[n] for n in CLE]} {row['valeur']} in [{low}, {high}], asked -{row['bas']} +{row['haut']}"
                )
                if len(told) >= enough:
                    return told
        return told


def hide(cells: pl.DataFrame, liens: Liens = LIENS, earlier: tuple[pl.DataFrame, ...] = ()) -> pl.DataFrame:
    return rsec.secret(cells, liens, REGLES, earlier)


def status(result: pl.DataFrame, name: str, level: str, code: str, start: dt.date, end: dt.date) -> str:
    return result.filter(
        (pl.col("mesure_id") == name) & (pl.col("territoire_niveau") == level) & (pl.col("territoire_code") == code)
        & (pl.col("periode_debut") == start) & (pl.col("periode_fin") == end)
    )["statut"].item()  # fmt: skip


# --- what is declared -------------------------------------------------------------------------------------------


def test_rules_in_force_are_those_that_the_project_declares() -> None:
    assert Regles.declarees() == REGLES


def test_interval_asked_for_is_six_wide_and_never_negative() -> None:
    result = hide(world(1))
    counts = result.filter((pl.col("nature") == "effectif") & pl.col("statut").is_in([PRIMAIRE, SECONDAIRE]))
    assert counts.filter(pl.col("bas") > pl.col("valeur")).is_empty()
    # Full width, but where the whole range of a small denominator is less than that.
    assert counts.filter(
        (pl.col("haut") + pl.col("bas") < 2 * MARGE) & (pl.col("valeur") + pl.col("haut") > 2 * MARGE)
    ).is_empty()
    sums = result.filter((pl.col("nature") == "montant") & (pl.col("statut") == PRIMAIRE))
    assert sums.height and (sums["haut"] == sums["valeur"] * 0.1).all() and (sums["bas"] == sums["haut"]).all()


@pytest.mark.parametrize(
    ("value", "whole", "rule"),
    [
        (0, 40, None), (1, 40, "effectif sous le seuil"), (10, 40, "effectif sous le seuil"), (11, 40, None), (29, 40, None),
        (30, 40, "complément sous le seuil"), (39, 40, "complément sous le seuil"), (40, 40, None), (0, 10, "dénominateur sous le seuil"),
        (0, 0, None), (11, 11, None),
    ],
)  # fmt: skip
def test_numerator_denominator_and_complement_are_all_tested(value: int, whole: int, rule: str | None) -> None:
    place = ("departement", "75", *annee(2021))
    cells = pl.DataFrame(
        [("locales", *place, float(value), "effectif", value, 0.0, True), ("demandes", *place, float(whole), "effectif", whole, 0.0, True)],
        orient="row", schema=[*CLE, "valeur", "nature", "contributeurs", "part_dominante", "montree"],
    )  # fmt: skip
    found = rsec._sensibles(cells, LIENS, REGLES).filter(pl.col("mesure_id") == "locales")
    assert found["regle"].item() == rule


@pytest.mark.parametrize(
    ("givers", "top", "rule"),
    [(2, 0.5, "trop peu de contributeurs"), (3, 0.5, None), (3, 0.85, None), (9, 0.86, "un contributeur dominant")],
)
def test_amounts_need_contributors_none_of_them_dominant(givers: int, top: float, rule: str | None) -> None:
    cells = pl.DataFrame(
        [("euros", "departement", "75", *annee(2021), 1e6, "montant", givers, top, True)],
        orient="row", schema=[*CLE, "valeur", "nature", "contributeurs", "part_dominante", "montree"],
    )  # fmt: skip
    assert rsec._sensibles(cells, LIENS, REGLES)["regle"].item() == rule


def test_same_cells_in_any_order_give_the_same_pattern() -> None:
    cells = world(3)
    assert hide(cells).equals(hide(cells.sample(fraction=1.0, shuffle=True, seed=1)))


def test_nothing_sensitive_hides_nothing() -> None:
    result = hide(world(4, scale=4000, amounts=False).filter(pl.col("mesure_id") == "demandes"))
    assert result["statut"].unique().to_list() == [PUBLIE]


# --- the attack -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seed", "scale", "cumulated"),
    [(1, 9.0, True), (2, 40.0, True), (3, 2.0, False), (4, 150.0, True), (5, 20.0, False)],
)
def test_attacker_finds_no_hidden_cell_within_its_interval(seed: int, scale: float, cumulated: bool) -> None:
    cells = world(seed, scale, cumulated=cumulated)
    result = hide(cells)
    shown = result.filter(pl.col("statut") != NON_MONTRE)
    hidden = shown.filter(pl.col("statut") != PUBLIE)
    assert hidden.height and not result["sans_preuve"].any()
    assert Attacker(result).breaches(result) == []
    # Secrecy that hides everything would pass too: most of what is not sensitive stays.
    sensitive = shown["statut"].eq(PRIMAIRE).sum()
    if scale >= 20:
        assert shown["statut"].eq(SECONDAIRE).sum() < 0.35 * (shown.height - sensitive)


@pytest.mark.parametrize("seed", range(100, 124))
def test_attacker_finds_nothing_in_any_random_table(seed: int) -> None:
    scale = (1.0, 4.0, 12.0, 30.0, 80.0, 300.0)[seed % 6]
    result = hide(world(seed, scale, years=1 + seed % 2, cumulated=seed % 4 == 1, amounts=seed % 3 == 0))
    assert not result["sans_preuve"].any() and Attacker(result).breaches(result) == []


@pytest.mark.parametrize(
    "limits", [{"EFFORT": 0}, {"EFFORT": 0, "TOURS": 0}, {"PASSES": 1, "TOURS": 0, "EFFORT": 2_000}]
)
def test_search_cut_short_hides_more_and_still_proves_all(
    limits: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the bounds of the search, what is left over is protected by hiding all that stands around it."""
    cells = world(6, 15.0, amounts=False)
    best = hide(cells)
    for name, value in limits.items():
        monkeypatch.setattr(rsec, name, value)
    result = hide(cells)
    assert not result["sans_preuve"].any() and Attacker(result).breaches(result) == []
    hidden = [frame["statut"].is_in([PRIMAIRE, SECONDAIRE]).sum() for frame in (best, result)]
    assert hidden[1] >= hidden[0]


def test_equal_sibling_gives_no_hidden_cell_away() -> None:
    """Accepted requests are all older than 24 months in an old year: whoever reads one measure knows the other."""
    rng = np.random.default_rng(3)
    rows = []
    for name in ("acceptees", "anciennes"):
        rng = np.random.default_rng(3)
        values = {d: float(rng.poisson(16)) for d in DEPARTEMENTS}
        rows += [(name, "departement", d, value) for d, value in values.items()]
        rows += [(name, "region", r, sum(values[d] for d in members)) for r, members in REGIONS.items()]
        rows += [(name, "national", "FR", sum(values.values()))]
    cells = pl.DataFrame(
        [(*row[:3], *annee(2021), row[3], "effectif", int(row[3]), 0.0, True) for row in rows],
        orient="row", schema=[*CLE, "valeur", "nature", "contributeurs", "part_dominante", "montree"],
    )  # fmt: skip
    apart = hide(cells, Liens(HIERARCHIE, RELATIONS.clear(), RAPPORTS.clear()))
    # One of the two is a little cheaper to hide at each place: without the tie, patterns may differ.
    inclusions = pl.DataFrame({"partie_id": ["anciennes"], "tout_id": ["acceptees"]})
    result = hide(cells, Liens(HIERARCHIE, RELATIONS.clear(), RAPPORTS.clear(), inclusions))
    assert apart["statut"].eq(PRIMAIRE).any()
    by_name = {
        name: result.filter(pl.col("mesure_id") == name).select(*LIEU, pl.col("statut") != PUBLIE).sort(LIEU)
        for name in ("acceptees", "anciennes")
    }
    assert by_name["acceptees"].equals(by_name["anciennes"])


def test_part_and_whole_that_differ_by_few_do_not_both_show() -> None:
    place = ("departement", "75", *annee(2021))
    cells = pl.DataFrame(
        [
            ("engage", *place, 1_000_000.0, "montant", 9, 0.2, True), ("etat", *place, 980_000.0, "montant", 2, 0.5, True),
            ("acceptees", *place, 40.0, "effectif", 40, 0.0, True), ("anciennes", *place, 37.0, "effectif", 37, 0.0, True),
        ],
        orient="row", schema=[*CLE, "valeur", "nature", "contributeurs", "part_dominante", "montree"],
    )  # fmt: skip
    inclusions = pl.DataFrame({"partie_id": ["etat", "anciennes"], "tout_id": ["engage", "acceptees"]})
    found = dict(
        hide(cells, Liens(HIERARCHIE, RELATIONS.clear(), RAPPORTS.clear(), inclusions))
        .select("mesure_id", "statut")
        .rows()
    )
    # The part of the State, hidden for its two payers, could not be 10 % more than it is under a whole that shows.
    assert found["etat"] == PRIMAIRE and found["engage"] == SECONDAIRE
    assert SECONDAIRE in (found["acceptees"], found["anciennes"])


def test_attacker_who_counts_tables_one_by_one_finds_as_many_values() -> None:
    """All whole tables that agree with the release, on tables small enough to list them."""
    for seed in range(12):
        rng = np.random.default_rng(seed)
        deps = {"01": ["971"], "24": ["18", "28", "36"], "11": ["75", "77"]}
        values = {d: float(rng.choice([0, 2, 5, 9, 12, 15, 30])) for members in deps.values() for d in members}
        rows = [("n", "departement", d, v) for d, v in values.items()]
        rows += [("n", "region", r, sum(values[d] for d in members)) for r, members in deps.items()]
        rows += [("n", "national", "FR", sum(values.values()))]
        cells = pl.DataFrame(
            [(*row[:3], *annee(2021), row[3], "effectif", int(row[3]), 0.0, True) for row in rows],
            orient="row", schema=[*CLE, "valeur", "nature", "contributeurs", "part_dominante", "montree"],
        )  # fmt: skip
        hierarchy = HIERARCHIE.filter(pl.col("membre_code").is_in(list(values)))
        result = hide(cells, Liens(hierarchy, RELATIONS.clear(), RAPPORTS.clear()))
        shown = {(r["territoire_niveau"], r["territoire_code"]): r for r in result.to_dicts()}
        free = [d for d in values if shown["departement", d]["statut"] != PUBLIE]
        possible: dict[tuple[str, str], set[float]] = {key: set() for key, r in shown.items() if r["statut"] != PUBLIE}
        for guess in itertools.product(range(46), repeat=len(free)) if len(free) <= 3 else ():
            table = values | dict(zip(free, map(float, guess), strict=True))
            sums = {("departement", d): v for d, v in table.items()}
            sums |= {("region", r): sum(table[d] for d in members) for r, members in deps.items()}
            sums["national", "FR"] = sum(table.values())
            if all(sums[key] == r["valeur"] for key, r in shown.items() if r["statut"] == PUBLIE):
                for key in possible:
                    possible[key].add(sums[key])
        for key, found in possible.items():
            if len(free) <= 3:
                row = shown[key]
                assert min(found) <= row["valeur"] - row["bas"] and max(found) >= min(
                    45, row["valeur"] + row["haut"]
                ), (seed, key, found)


def test_without_one_of_its_secondary_cells_the_attacker_wins() -> None:
    tried = won = 0
    for seed, scale in ((2, 40.0), (4, 150.0), (11, 60.0)):
        result = hide(world(seed, scale, cumulated=False, amounts=False))
        secondary = result.filter(pl.col("statut") == SECONDAIRE)
        assert secondary.height
        for row in secondary.head(5).to_dicts():
            shown = pl.all_horizontal(pl.col(n) == row[n] for n in CLE)
            opened = result.with_columns(pl.when(shown).then(pl.lit(PUBLIE)).otherwise("statut").alias("statut"))
            tried += 1
            won += bool(Attacker(opened).breaches(opened, enough=1))
    assert won >= 0.7 * tried, f"{won} of {tried}: the others were hidden for nothing"


def test_single_total_and_part_would_be_a_subtraction() -> None:
    """The attacker of these tests is able: told only the primary cells, he finds them."""
    result = hide(world(2, 40.0))
    naive = result.with_columns(
        pl.when(pl.col("statut") == SECONDAIRE).then(pl.lit(PUBLIE)).otherwise("statut").alias("statut")
    )
    assert len(Attacker(naive).breaches(naive, enough=6)) > 5


# --- from one release to the next -------------------------------------------------------------------------------


def revised(cells: pl.DataFrame, changes: dict[tuple[str, str], float]) -> pl.DataFrame:
    """The world after late rows arrived: (département, outcome) of 2022 → more of it, and all totals with it."""
    region_of = {d: r for r, members in REGIONS.items() for d in members}
    out = cells
    for (d, name), more in changes.items():
        here = (
            pl.col("mesure_id").is_in([name, "demandes"])
            & (pl.col("periode_debut") <= dt.date(2022, 1, 1))
            & (pl.col("periode_fin") >= dt.date(2022, 12, 31))
            & (
                ((pl.col("territoire_niveau") == "departement") & (pl.col("territoire_code") == d))
                | ((pl.col("territoire_niveau") == "region") & (pl.col("territoire_code") == region_of[d]))
                | (pl.col("territoire_niveau") == "national")
            )
        )
        out = out.with_columns(pl.when(here).then(pl.col("valeur") + more).otherwise("valeur").alias("valeur"))
    return out


@pytest.mark.parametrize(
    "changes",
    [
        {("75", "locales"): 3.0},
        {("971", "locales"): 12.0, ("18", "nationales"): 1.0},
        {("01", "en_cours"): 30.0, ("03", "locales"): 25.0, ("77", "locales"): 40.0},
    ],
)
def test_two_releases_together_tell_no_more(changes: dict[tuple[str, str], float]) -> None:
    before = world(7, 30.0, amounts=False)
    first = hide(before)
    second = hide(revised(before, changes), earlier=(first,))
    attacker = Attacker(second, first)
    assert attacker.breaches(second) == []
    assert attacker.breaches(first) == []
    # A revision of a few cells must not close the table.
    assert second["statut"].eq(SECONDAIRE).mean() < first["statut"].eq(SECONDAIRE).mean() + 0.1


@pytest.mark.parametrize("seed", range(200, 206))
def test_cell_hidden_once_stays_hidden_whatever_arrives_later(seed: int) -> None:
    """Late rows anywhere: both releases together leave each hidden cell its interval, and one that kept its value shows in none."""
    rng = np.random.default_rng(seed)
    before = world(seed, float(rng.choice([6.0, 20.0, 60.0])), cumulated=False, amounts=False)
    first = hide(before)
    late = {
        (str(rng.choice(DEPARTEMENTS)), str(rng.choice(["locales", "nationales", "en_cours"]))): float(
            rng.integers(1, 20)
        )
        for _ in range(4)
    }
    second = hide(revised(before, late), earlier=(first,))
    # Nothing can be done for what the first release showed and a rule hides now; everything else has its proof.
    shown = first.filter(pl.col("statut") == PUBLIE)
    assert second.filter("sans_preuve").join(shown, on=[*CLE, "valeur"], how="anti").is_empty()
    attacker = Attacker(second, first)
    assert attacker.breaches(second) == [] and attacker.breaches(first) == []
    kept = first.filter(pl.col("statut").is_in([PRIMAIRE, SECONDAIRE])).join(
        second, on=[*CLE, "valeur"], suffix="_apres"
    )
    assert kept.height and PUBLIE not in kept["statut_apres"].to_list()


def test_same_data_again_give_the_same_release() -> None:
    first = hide(world(7, 30.0))
    assert hide(world(7, 30.0), earlier=(first,)).equals(first)


def test_cell_that_was_public_cannot_hide_another() -> None:
    """Without the first release the cheapest companion would do; its readers know it, so another is taken."""
    cells = world(8, 60.0, cumulated=False, amounts=False).filter(pl.col("mesure_id") == "demandes")
    alone = hide(cells)
    companion = alone.filter(
        (pl.col("statut") == SECONDAIRE) & (pl.col("territoire_niveau") == "departement")
    ).to_dicts()[0]
    here = pl.all_horizontal(pl.col(n) == companion[n] for n in CLE)
    past = alone.filter(here).with_columns(pl.lit(PUBLIE).alias("statut"))
    after = hide(cells, earlier=(past,))
    assert after.filter(here)["statut"].item() == PUBLIE
    assert Attacker(after).breaches(after) == []
    assert after.filter(pl.col("statut") == SECONDAIRE).height > 0


def test_cell_already_given_away_is_said_to_be_without_proof() -> None:
    cells = world(1)
    first = hide(cells)
    leaked = first.with_columns(
        pl.when((pl.col("mesure_id") == "locales") & (pl.col("valeur") == 3))
        .then(pl.lit(PUBLIE))
        .otherwise("statut")
        .alias("statut")
    )
    again = hide(cells, earlier=(leaked,))
    lost = again.filter((pl.col("mesure_id") == "locales") & (pl.col("valeur") == 3))
    assert lost.height and lost["sans_preuve"].all() and (lost["statut"] == PRIMAIRE).all()

"""What every part of the demonstration world shares: chance by name, real territories, and who acts where and when."""

from __future__ import annotations

import datetime as dt
import zlib
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from ingestion.catalogue_schema import Catalogue, Indicateur, load_catalogue
from ingestion.declarations import Source, load_sources

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

DEBUT, FIN = dt.date(2020, 1, 1), dt.date(2025, 12, 31)
ANNEES = tuple(range(DEBUT.year, FIN.year + 1))
OPERATEURS = {
    "op_ademe": "ADEME", "op_anru": "ANRU", "op_anah": "Anah", "op_cerema": "Cerema",
    "op_bdt": "Banque des Territoires",
}  # fmt: skip
# Pacts stand on the perimeter that the catalogue declares; the département is the one that sends the convention.
PACTES: dict[str, tuple[tuple[str, str, str], ...]] = {
    "pacte_ardennes": (("perimetre", "pacte_ardennes", "08"),),
    "plan_creuse": (("perimetre", "plan_creuse", "23"),),
    "pacte_nievre": (("perimetre", "pacte_nievre", "58"),),
    "pacte_sambre_avesnois": (("perimetre", "pacte_sambre_avesnois_thierache", "59"),),
    "bassin_minier": (("perimetre", "bassin_minier_epci", "62"),),
}
# Perimeters that lie over two départements: the one beside that which sends the convention.
AUTRE_DEPARTEMENT = {"pacte_sambre_avesnois_thierache": "02", "bassin_minier_epci": "59"}
CONTRATS = ("contrat_cohesion", "pacte_resilience")
# The three programmes whose effect is known: communes that have one have none of the other two.
COHORTES = ("action_coeur_de_ville", "petites_villes_de_demain", "france_services")


def disposition(kind: str) -> Source:
    """The declared layout of a kind of record."""
    return load_sources()[f"interne__{kind}"]


def chance(seed: int, name: str) -> np.random.Generator:
    """The random stream of one named part: adding a part changes no other."""
    import numpy as np

    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def days(rng: np.random.Generator, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """A day drawn evenly in ``[first, last]`` (datetime64[D] arrays; ``last`` is at least ``first``)."""
    import numpy as np

    span = np.maximum((last - first).astype(np.int64), 0)
    return first + (rng.random(len(first)) * (span + 1)).astype(np.int64)


def year_start(years: np.ndarray) -> np.ndarray:
    import numpy as np

    return (
        (years.astype(np.int64) - 1970).astype("datetime64[Y]").astype("datetime64[D]")
        if len(years)
        else np.array([], "datetime64[D]")
    )


def dates(name: str, values: np.ndarray, keep: np.ndarray | None = None) -> pl.Series:
    """datetime64[D] to a Polars date column, null where ``keep`` is false."""
    import numpy as np
    import polars as pl

    days_since = values.astype("datetime64[D]").astype(np.int32)
    series = pl.Series(name, days_since).cast(pl.Date)
    if keep is None:
        return series
    return pl.select(pl.when(pl.Series(keep)).then(series).alias(name)).to_series()


@dataclass(frozen=True)
class Territoires:
    """Real territories of the embedded archive's last vintage, overseas collectivities left out.

    communes: code, nom, departement_code, population, epci_code. epci: code, nom, departement_code, population.
    departements: code, nom, region_code, population (101 rows). All sorted by code.
    """

    communes: pl.DataFrame
    epci: pl.DataFrame
    departements: pl.DataFrame


@cache
def territoires() -> Territoires:
    """Communes, EPCI and départements as published in the archive (0.2 s).

    The landed tables are not used: they follow the transport of the last run, and the demonstration must be the same
    world whatever was landed before it.
    """
    import tarfile

    import orjson
    import polars as pl

    from ingestion.fetch import ARCHIVE

    sources = load_sources()
    last = {
        max(sources[f"etalab__{name}"].meta.livraisons, key=lambda item: item.millesime).chemin.removesuffix(
            ".gz"
        ): name
        for name in ("communes", "epci", "departements")
    }
    files: dict[str, Any] = {}
    with tarfile.open(ARCHIVE, "r:xz") as archive:
        for member in archive:
            stream = archive.extractfile(member) if member.name in last else None
            if stream is not None:
                files[last[member.name]] = orjson.loads(stream.read())
    text = pl.String
    # The file also lists overseas collectivities, which have no délégué territorial of a département.
    zones = pl.DataFrame(
        files["departements"], schema={"code": text, "nom": text, "region": text, "zone": text}
    ).filter(pl.col("zone").is_in(["metro", "drom"]))
    communes = (
        pl.DataFrame(
            files["communes"],
            schema={"code": text, "nom": text, "type": text, "departement": text, "population": pl.Int64},
        )
        .filter(pl.col("type") == "commune-actuelle", pl.col("population") > 0)
        .join(zones, left_on="departement", right_on="code", how="semi")
        .select("code", "nom", departement_code="departement", population="population")
    )
    membres = pl.DataFrame(
        [(e["code"], e["nom"], m["code"]) for e in files["epci"] for m in e["membres"]],
        schema={"epci_code": text, "epci_nom": text, "code": text}, orient="row",
    ).unique("code", keep="first", maintain_order=True)  # fmt: skip
    communes = communes.join(membres.select("code", "epci_code"), on="code", how="left").sort("code")
    # An EPCI belongs to the département of most of its inhabitants.
    epci = (
        membres.join(communes.drop("epci_code"), on="code")
        .group_by("epci_code", "epci_nom", "departement_code").agg(pl.col("population").sum())
        .sort("epci_code", "population", "departement_code", descending=[False, True, False])
        .group_by("epci_code", maintain_order=True)
        .agg(pl.col("epci_nom", "departement_code").first(), pl.col("population").sum())
        .rename({"epci_code": "code", "epci_nom": "nom"})
    )  # fmt: skip
    departements = (
        zones.select("code", "nom", region_code="region")
        .join(
            communes.group_by("departement_code").agg(pl.col("population").sum()),
            left_on="code",
            right_on="departement_code",
        )
        .sort("code")
    )
    return Territoires(communes, epci, departements)


def pick(
    rng: np.random.Generator, pool: pl.DataFrame, size: int, weight: str | None = None, each: int = 0
) -> pl.DataFrame:
    """``size`` rows of ``pool`` drawn without replacement, ``each`` per département first; sorted as the pool is."""
    import numpy as np
    import polars as pl

    weights = pool[weight].to_numpy().astype(float) if weight else np.ones(pool.height)
    return (
        pool.with_columns(_cle=pl.Series(rng.exponential(size=pool.height) / weights), _rang=pl.int_range(pl.len()))
        .with_columns(_suite=pl.col("_cle").rank("ordinal").over("departement_code") > each)
        .sort("_suite", "_cle")
        .head(size)
        .sort("_rang")
        .drop("_cle", "_rang", "_suite")
    )


@dataclass(frozen=True)
class Plan:
    """Where an intervention acts in the demonstration: level, number of conventions, years of signature with their
    shares, length of a convention in years, actions per convention, and median commitment of one of them in euros."""

    niveau: str
    effectif: int
    annees: tuple[tuple[int, float], ...] = ((2020, 0.3), (2021, 0.35), (2022, 0.2), (2023, 0.15))
    duree: int = 5
    actions: float = 1.5
    montant: float = 60_000
    population: tuple[int, int] = (500, 3_000_000)
    par_departement: int = 0


PLANS: dict[str, Plan] = {
    "action_coeur_de_ville": Plan(
        "commune", 230, ((2018, 0.75), (2019, 0.25)), duree=9, actions=9, montant=900_000,
        population=(14_000, 200_000), par_departement=1,
    ),
    "petites_villes_de_demain": Plan(
        "commune", 1600, ((2020, 0.2), (2021, 0.55), (2022, 0.25)), duree=6, actions=2, montant=180_000,
        population=(1_000, 20_000)
    ),
    "france_services": Plan(
        "commune", 2500, ((2019, 0.1), (2020, 0.4), (2021, 0.3), (2022, 0.2)), duree=8, actions=0.3, montant=40_000,
        population=(300, 60_000), par_departement=4,
    ),
    "contrat_cohesion": Plan("epci", 560, ((2021, 0.7), (2022, 0.3)), duree=6, actions=4, montant=250_000, par_departement=1),
    "pacte_resilience": Plan(
        "epci", 400, ((2020, 0.4), (2021, 0.4), (2022, 0.2)), duree=6, actions=6, montant=250_000, par_departement=1
    ),
    "territoires_industrie": Plan("epci", 330, ((2019, 0.45), (2020, 0.15), (2023, 0.4)), actions=4, montant=300_000, par_departement=1),
    "france_thd": Plan("departement", 101, ((2018, 0.5), (2019, 0.5)), duree=9, actions=4, montant=4_000_000),
    "montagne": Plan("commune", 60, actions=3, montant=150_000, population=(500, 20_000)),
    "sur_mesure": Plan("commune", 48, actions=1, montant=30_000),
}  # fmt: skip
# Mountain massifs: where the mountain programme acts.
MONTAGNE = (
    "01", "04", "05", "06", "07", "09", "11", "12", "15", "19", "25", "26", "2A", "2B", "31", "38", "39", "42", "43",
    "48", "63",
    "64", "65", "66", "67", "68", "70", "73", "74", "81", "83", "84", "87", "88", "90", "974",
)  # fmt: skip


# Families of measures that count conventions or what they cover, and those that follow their actions or their money.
COMPTES, SUIVIS = (
    ("conventions_", "territoires_conventions", "population_"),
    ("actions_inscrites", "actions_achevees", "montant_"),
)


def plan(intervention_id: str, niveau_action: str, besoins: Besoins) -> Plan:
    """The plan of an intervention; those without one of their own act at the level that the catalogue says.

    An intervention whose conventions, actions or money are themselves an indicator has two in each département at least.
    """
    if intervention_id in PLANS:
        return PLANS[intervention_id]
    counted, worked = (
        intervention_id in besoins.de(*(name for name in besoins.familles if name.startswith(prefixes)))
        for prefixes in (COMPTES + SUIVIS, SUIVIS)
    )
    found = _elsewhere(niveau_action, *((2, 260) if counted else (0, 48)))
    return replace(found, actions=4) if worked else found


def _elsewhere(niveau_action: str, each: int, size: int) -> Plan:
    if niveau_action == "national":
        return Plan("region", 18, actions=1)
    if niveau_action == "departement":
        return Plan("departement", 101, actions=1)
    if niveau_action == "epci" or niveau_action == "perimetre":
        return Plan("epci", size, par_departement=each)
    # Priority neighbourhoods stand in towns; the layout knows no finer level than the commune.
    population = (8_000, 3_000_000) if niveau_action.startswith("qpv") else (500, 3_000_000)
    return Plan("commune", size, population=population, par_departement=each)


@dataclass(frozen=True)
class Besoins:
    """What the catalogue asks of the records: families of internal measures, and indicators reported by actions."""

    familles: dict[str, frozenset[str]]
    indicateurs: tuple[tuple[str, Indicateur], ...]

    def de(self, *familles: str) -> frozenset[str]:
        return frozenset().union(*(self.familles.get(name, frozenset()) for name in familles))


def besoins(catalogue: Catalogue | None = None) -> Besoins:
    """Reads the calculations of the catalogue: ``family__object`` measures, and who reports each ``action_*`` one.

    An indicator reported by actions comes with the intervention that owns it, or the first that shares a common one.
    """
    catalogue = catalogue or load_catalogue()
    owners: dict[str, str] = {}
    entries: dict[str, Indicateur] = {i.indicateur_id: i for i in catalogue.communs}
    for item in catalogue.interventions.values():
        for shared in item.indicateurs_partages:
            owners.setdefault(shared.id, item.intervention_id)
        for indicateur in item.indicateurs:
            owners[indicateur.indicateur_id] = item.intervention_id
            entries[indicateur.indicateur_id] = indicateur
    familles: dict[str, set[str]] = {}
    for indicateur in entries.values():
        for mesure in indicateur.calcul.mesures if indicateur.calcul else ():
            family, _, thing = mesure.partition("__")
            familles.setdefault(family, set()).add(thing)
    reported = familles.get("action_quantite", set()) | familles.get("action_reference", set())
    return Besoins(
        {family: frozenset(things) for family, things in familles.items()},
        tuple((owners[name], entries[name]) for name in sorted(reported) if name in entries and name in owners),
    )

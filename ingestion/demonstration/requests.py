"""Requests for engineering and their dated events, as the tailor-made protocol tells them, with a few breaches of it.

A request reaches the délégué territorial, who designates one interlocutor. It is then answered locally, or the ANCT is
called on with a justification. Requests near the end of 2025 are still open: their delays are censored on the right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ingestion.demonstration.keyboard import addresses, names, telephones
from ingestion.demonstration.world import DEBUT, FIN, OPERATEURS, Territoires, chance, dates

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

DEMANDES = 20_000
THEMES = (
    ("commerce", 0.13), ("habitat", 0.19), ("mobilités", 0.11), ("transition écologique", 0.15), ("numérique", 0.09),
    ("santé", 0.09), ("tourisme", 0.08), ("équipements publics", 0.12), ("autre", 0.04),
)  # fmt: skip
INTERLOCUTEURS = (("sous-préfet", 0.35), ("DDT", 0.4), ("opérateur", 0.15), ("aménageur local", 0.1))
INSTRUMENTS = (
    ("compétences internes", 0.25), ("missions de l'État", 0.1), ("subvention", 0.2),
    ("marché à bons de commande", 0.25),
    ("convention opérateur", 0.2),
)  # fmt: skip
OBJETS = (
    "Étude de reconversion de l'ancienne école", "Revitalisation du centre-bourg", "Ouvrage d'art à reprendre",
    "Maison de santé", "Tiers-lieu dans l'ancienne gare", "Plan de circulation", "Requalification de la friche",
)  # fmt: skip
# Rules of the protocol that some requests break, among those that it governs to their end. Only tests read who breaks
# which. Two more rules need nothing planted: a request that nobody answered sleeps, and the door stops an early event.
MANQUEMENTS_LOCAUX = tuple(
    (name, 0.006)
    for name in (
        "interlocuteur_non_designe",
        "interlocuteur_multiple",
        "designation_tardive",
        "comite_local_non_informe",
        "consolidation_absente",
        "double_cloture",
        "voie_contredite",
        "reponse_sans_voie",
    )
)
MANQUEMENTS_NATIONAUX = tuple(
    (name, 0.014)
    for name in (
        "saisine_absente",
        "justification_absente",
        "validation_absente",
        "appui_malgre_refus",
        "convention_absente",
        "appui_avant_convention",
        "instrument_absent",
        "operateur_absent",
        "pilotage_hors_delegue",
        "dates_d_appui_inversees",
    )
)


def _draw(rng: np.random.Generator, shares: tuple[tuple[str, float], ...], size: int) -> np.ndarray:
    import numpy as np

    p = np.array([share for _, share in shares])
    return np.array([name for name, _ in shares], object)[rng.choice(len(p), size=size, p=p / p.sum())]


def _planted(rng: np.random.Generator, shares: tuple[tuple[str, float], ...], eligible: np.ndarray) -> np.ndarray:
    """The breach of each row, « » for none; a row has one at most."""
    import numpy as np

    found = np.full(len(eligible), "", object)
    point, bound = rng.random(len(eligible)), 0.0
    for name, share in shares:
        found[eligible & (point >= bound) & (point < bound + share)] = name
        bound += share
    return found


def requests(seed: int, where: Territoires) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """(demandes, evenements, manquements, appuis): clean typed rows of both kinds, planted breaches (demande_id,
    manquement), and the requests that an operator of the first circle supports."""
    import numpy as np
    import polars as pl

    homes, fin, never = where.departements, np.datetime64(FIN), np.datetime64("2100-01-01")
    rng = chance(seed, "départements et demandes")
    weight = homes["population"].to_numpy().astype(float) ** 0.45
    local_rate = np.clip(rng.beta(42, 5.2, homes.height), 0.72, 0.985)
    pace = np.exp(rng.normal(0, 0.4, homes.height))
    answering = rng.beta(60, 2.5, homes.height)

    rng, size = chance(seed, "demandes"), DEMANDES
    home = np.sort(rng.choice(homes.height, size=size, p=weight / weight.sum()))
    first, last = np.datetime64(DEBUT), fin - 1
    # Requests grow with the years: the square root pushes them late.
    asked = first + ((last - first).astype(int) * rng.random(size) ** 0.8).astype(np.int64)
    order = np.lexsort((asked, home))
    home, asked = home[order], asked[order]
    year = asked.astype("datetime64[Y]").astype(int) + 1970
    places, level = _communities(seed, where, home)
    fragile = rng.random(size) < np.where(places["population"].to_numpy() < 2500, 0.36, 0.18)

    # Which way: dropped, never answered, local, national; the last two once decided.
    point = rng.random(size)
    dropped = point < 0.045
    silent = ~dropped & (rng.random(size) > answering[home])
    national_wish = rng.random(size) > np.clip(
        local_rate[home] + 0.008 * (year - 2022) - 0.06 * fragile + 0.02, 0.5, 0.99
    )
    received = asked + rng.integers(0, 4, size)
    designated = asked + 1 + (24 * pace[home] * rng.lognormal(0, 0.7, size)).astype(np.int64)
    designated = np.where(silent | (dropped & (rng.random(size) < 0.5)), never, np.maximum(designated, received))
    has_person = designated <= fin
    decided = designated + rng.integers(5, 60, size)
    answered = has_person & ~dropped & (decided <= fin)
    local, national = answered & ~national_wish, answered & national_wish

    # Local: the committee is told, the answer closes, ANCT gets the yearly consolidation.
    told = designated + rng.integers(20, 100, size)
    closed_local = decided + 40 + rng.gamma(2, 75, size).astype(np.int64)
    following = (
        ((closed_local.astype("datetime64[Y]").astype(int) + 1) - 0).astype("datetime64[Y]").astype("datetime64[D]")
    )
    consolidated = following + rng.integers(14, 85, size)
    # National: appeal, committee, convention, support, then works and service.
    appealed = np.maximum(decided, designated)
    judged = appealed + rng.integers(25, 75, size)
    refused = rng.random(size) < 0.08
    signed = judged + rng.integers(15, 60, size)
    begun = signed + rng.integers(5, 40, size)
    ended = begun + 80 + rng.gamma(2, 120, size).astype(np.int64)
    closed_national = np.where(refused, judged + 10, ended + rng.integers(5, 30, size))
    works = np.where(rng.random(size) < 0.62, begun + rng.integers(180, 900, size), never)
    service = np.where(rng.random(size) < 0.7, works + rng.integers(200, 700, size), never)
    given_up = np.where(dropped, asked + rng.integers(25, 240, size), never)

    # Breaches stand only in files where the protocol has run its course, so that each is really one.
    old_local = local & (told <= fin) & (closed_local <= fin) & (consolidated <= fin)
    old_national = national & ~refused & (ended <= fin)
    breach = _planted(rng, MANQUEMENTS_LOCAUX, old_local)
    breach = np.where(old_national, _planted(rng, MANQUEMENTS_NATIONAUX, old_national), breach)

    def is_(name: str) -> np.ndarray:
        return breach == name

    begun = np.where(is_("appui_avant_convention"), signed - 12, begun)
    ended = np.where(is_("dates_d_appui_inversees"), begun - 3, ended)
    designated = np.where(is_("designation_tardive"), closed_local + 7, designated)
    contradicted = is_("voie_contredite")  # sent up to the ANCT, then answered locally

    supported = national & ~refused & (judged <= fin)
    instrument = np.where(supported & ~is_("instrument_absent"), _draw(rng, INSTRUMENTS, size), None)
    instrument = np.where(is_("operateur_absent"), "convention opérateur", instrument)
    operator = np.where(instrument == "convention opérateur", rng.choice(list(OPERATEURS.values()), size=size), None)
    operator = np.where(is_("operateur_absent"), None, operator)
    lacking = national & fragile & (rng.random(size) < 0.85)
    innovative, complex_, rare = (national & (rng.random(size) < p) for p in (0.35, 0.4, 0.2))
    wide = national & (rng.random(size) < 0.06)
    # An appeal always has a reason: complexity where no other was drawn. Fragility alone is none.
    complex_ |= contradicted | (national & ~(lacking | innovative | rare | wide))
    none = is_("justification_absente")
    lacking, innovative, complex_, rare, wide = (flag & ~none for flag in (lacking, innovative, complex_, rare, wide))
    worked = rng.gamma(3, 6, size).round(1)
    person = has_person & ~is_("interlocuteur_non_designe")

    people = chance(seed, "personnes des demandes")
    contact = names(people, size)
    # One of a few hundred people, whom the pseudonym tells apart.
    who = names(chance(seed, "interlocuteurs"), 450).gather(people.integers(450, size=size))
    subject = pl.Series(OBJETS).gather(people.integers(len(OBJETS), size=size)) + ", demande de " + contact

    def text(name: str, values: np.ndarray) -> pl.Series:
        return pl.Series(name, list(values), dtype=pl.String)

    demandes = (
        pl.DataFrame({"departement_code": homes["code"].gather(home)})
        .with_columns(_annee=pl.Series(year))
        .select(
            demande_id=pl.concat_str(
                "departement_code", pl.lit("-DI-"), "_annee", pl.lit("-"),
                pl.int_range(1, pl.len() + 1).over("departement_code", "_annee").cast(pl.String).str.zfill(4),
            ),
            departement_code="departement_code", territoire_niveau=level, territoire_code=places["code"],
            collectivite_fragile=pl.Series(fragile.astype(bool)), date_demande=dates("date_demande", asked),
            theme=text("theme", _draw(rng, THEMES, size)), objet=subject,
            voie=text(
                "voie", np.where(is_("reponse_sans_voie"), None, np.where(local, "locale", np.where(national, "nationale", None)))
            ),
            interlocuteur_type=text("interlocuteur_type", np.where(person, _draw(rng, INTERLOCUTEURS, size), None)),
            interlocuteur_nom=pl.when(pl.Series(person)).then(who),
            **{
                name: pl.when(pl.Series(national | contradicted)).then(pl.Series(flag))
                for name, flag in {
                    "insuffisance_locale": lacking, "caractere_innovant": innovative,
                    "complexite_particuliere": complex_,
                    "ingenierie_rare": rare, "envergure_nationale": wide,
                }.items()
            },
            instrument=text("instrument", instrument), operateur=text("operateur", operator),
            pilote=text("pilote", np.where(supported, np.where(is_("pilotage_hors_delegue"), "ANCT", "délégué territorial"), None)),
            jours_ingenierie=pl.when(pl.Series(supported)).then(pl.Series(worked)),
            cout_eur=pl.when(pl.Series(supported)).then(pl.Series((worked * rng.uniform(550, 980, size)).round(0))),
            contact_courriel=addresses(people, contact), contact_telephone=telephones(people, size, 0.85),
        )
    )  # fmt: skip

    ever = np.ones(size, bool)
    supported_to_come = national & ~refused
    steps = [
        ("réception", ever, received),
        ("désignation de l'interlocuteur", person, designated),
        ("désignation de l'interlocuteur", is_("interlocuteur_multiple"), designated + 20),
        ("information du comité local", local & ~is_("comite_local_non_informe"), told),
        ("clôture réponse locale", local, closed_local),
        ("consolidation annuelle", local & ~is_("consolidation_absente"), consolidated),
        (
            "saisine de l'ANCT",
            (national & ~is_("saisine_absente")) | contradicted,
            np.where(contradicted, told, appealed),
        ),
        ("validation du comité de suivi", supported_to_come & ~is_("validation_absente"), judged),
        ("refus du comité de suivi", (national & refused) | is_("appui_malgre_refus"), judged + 3),
        ("signature de la convention d'appui", supported_to_come & ~is_("convention_absente"), signed),
        ("début d'appui", supported_to_come, begun),
        ("fin d'appui", supported_to_come, ended),
        ("clôture appui national", national, closed_national),
        ("passage en travaux", supported_to_come, works),
        ("mise en service", supported_to_come, service),
        ("sans suite", dropped, given_up),
        ("sans suite", is_("double_cloture"), closed_local + 12),
    ]
    parts = []
    for name, mask, day in steps:
        kept = np.flatnonzero(mask & (day <= fin))
        parts.append(
            demandes.select("demande_id", "departement_code")[kept].with_columns(
                dates("date_evenement", day[kept]), type_evenement=pl.lit(name), _rang=pl.Series(kept)
            )
        )
    evenements = pl.concat(parts).sort("_rang", "date_evenement", maintain_order=True)
    evenements = evenements.select(
        "demande_id",
        "type_evenement",
        "date_evenement",
        "departement_code",
        auteur_nom=names(chance(seed, "auteurs des événements"), evenements.height, 0.8),
    )
    named = np.flatnonzero(breach != "")
    manquements = pl.DataFrame(
        {"demande_id": demandes["demande_id"][named], "manquement": pl.Series(list(breach[named]), dtype=pl.String)}
    )
    # Operators are called on once the committee has agreed.
    tied = np.flatnonzero((operator != None) & (judged <= fin))  # noqa: E711 (elementwise)
    appuis = (
        demandes[tied]
        .select("demande_id", "operateur", "departement_code")
        .with_columns(dates("date_demande", judged[tied]))
    )
    return demandes, evenements, manquements, appuis


def _communities(seed: int, where: Territoires, home: np.ndarray) -> tuple[pl.DataFrame, pl.Series]:
    """The community behind each request (code, population) and its level: a commune, or an EPCI one time in seven."""
    import numpy as np
    import polars as pl

    rng, size = chance(seed, "collectivités des demandes"), len(home)
    found = {}
    for name, pool in (("commune", where.communes), ("epci", where.epci)):
        rows = where.departements.select(departement_code="code").join(
            pool.select("departement_code", "code", "population"),
            on="departement_code",
            how="left",
            maintain_order="left",
        )
        counts = (
            rows.group_by("departement_code", maintain_order=True)
            .agg(pl.col("code").count())["code"]
            .to_numpy()
            .astype(np.int64)
        )
        starts = np.concatenate([[0], np.cumsum(np.maximum(counts, 1))[:-1]])
        index = starts[home] + (rng.random(size) * np.maximum(counts[home], 1)).astype(np.int64)
        found[name] = rows[index].select("code", "population")
    epci = pl.Series("epci", rng.random(size) < 0.15) & found["epci"]["code"].is_not_null()
    chosen = pl.DataFrame({
        name: pl.select(pl.when(epci).then(found["epci"][name]).otherwise(found["commune"][name])).to_series()
        for name in ("code", "population")
    })  # fmt: skip
    return chosen, pl.select(
        pl.when(epci).then(pl.lit("epci")).otherwise(pl.lit("commune")).alias("territoire_niveau")
    ).to_series()

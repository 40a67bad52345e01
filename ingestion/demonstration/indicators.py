"""Values of the indicators that départements report by themselves, and the dated targets of all internal ones.

What is reported follows the catalogue: an indicator whose calculation asks for ``action_quantite__<id>`` or
``action_reference__<id>`` is fed, whether or not it has a profile below.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ingestion.demonstration.keyboard import names
from ingestion.demonstration.world import ANNEES, MONTAGNE, Besoins, Territoires, chance, dates, year_start

if TYPE_CHECKING:
    import polars as pl

    from ingestion.catalogue_schema import Catalogue, Indicateur


@dataclass(frozen=True)
class Profil:
    """Order of magnitude in 2020: the displayed ``valeur`` (a count: per year and for the whole country), the national
    total of the denominator or weight, and the relative change from one year to the next."""

    valeur: float
    reference: float = 40_000
    evolution: float = 0.04


PROFILS: dict[str, Profil] = {
    "ac_contrats_signes": Profil(900),
    "acv_engagements": Profil(95, 12_000_000),
    "acv_logements_accompagnes": Profil(26_000, evolution=0.15),
    "ad_membres_actifs": Profil(6_500, evolution=0.08),
    "ad_pratiques_reprises": Profil(38, 9_000),
    "ad_satisfaction": Profil(7.4, 9_000, 0.01),
    "ad_services_ameliores": Profil(17, 9_000),
    "ar_mesures_realisees": Profil(45, 18_200, 0.09),
    "at_investissement_declenche": Profil(14, 9_000_000),
    "at_projets_accompagnes": Profil(2_100),
    "bmi_logements_rehabilites": Profil(2_400, evolution=0.12),
    "cc_demarches": Profil(2_600),
    "cc_avis_suivis": Profil(55, 30_000),
    "cc_representativite": Profil(27, evolution=-0.03),
    "ce_part_eleves_couverts": Profil(22, 1_300_000, 0.1),
    "ct_delai_versement": Profil(118, 9_000, -0.03),
    "ct_population_action_livree": Profil(21, 30_000_000, 0.12),
    "ct_taux_couverture": Profil(48, 68_000_000, 0.05),
    "ds_jeunes_repris": Profil(31_000, evolution=0.03),
    "ec_m2_livres": Profil(95_000, evolution=0.05),
    "ec_taux_occupation": Profil(84, 11_000, 0.01),
    "ess_survie_3ans": Profil(69, 8_000, 0.01),
    "fe_acquis": Profil(1.9, 12_000, 0.02),
    "fe_elus_formes": Profil(9_500, evolution=0.06),
    "fe_part_petites_communes": Profil(57, 12_000, 0.01),
    "fe_population_projet_service": Profil(19, 14_000_000, 0.08),
    "fe_projets_transition": Profil(0.7, 9_000, 0.06),
    "fp_actions_lancees": Profil(61, 2_400, 0.02),
    "fp_diffusion": Profil(1_900, evolution=0.05),
    "fp_habitants_action": Profil(4_200_000, evolution=0.05),
    "fp_territoires": Profil(1_500, evolution=0.02),
    "grr_adultes_relais": Profil(6_200, evolution=0.02),
    "grr_habitants_par_mediateur": Profil(810, 6_600, -0.02),
    "grr_sentiment_securite": Profil(61, 26_000, 0.01),
    "ic_part_estimation_causale": Profil(12, 4_646, 0.2),
    "ic_part_interventions_mesurees": Profil(48, 4_646, 0.1),
    "ii_satisfaction_collectivite": Profil(71, 8_000, 0.02),
    "in_autonomie": Profil(2.1, 22_000, 0.02),
    "ld_ecart_reponse_testing": Profil(6.4, 9_000, -0.03),
    "ld_personnes_formees": Profil(8_500, evolution=0.05),
    "ld_ptlcd_signes": Profil(420, evolution=0.06),
    "mc_confiance": Profil(5.9, 30_000, 0.01),
    "mo_investissement_diversification": Profil(46_000_000, evolution=0.07),
    "nl_fabriques": Profil(1_400, evolution=0.05),
    "nl_usagers": Profil(165, evolution=0.04),
    "nl_viabilite_3ans": Profil(81, 1_900, 0.01),
    "paq_alternants_qpv": Profil(16_500, evolution=0.07),
    "paq_entreprises": Profil(9_000, evolution=0.06),
    "pc_conseils_actifs": Profil(44, 6_000, 0.01),
    "pc_participants_1000hab": Profil(7.5, 5_400_000, 0.03),
    "pre_cout_par_parcours": Profil(1_050, 62_000, 0.02),
    "pre_enfants_suivis": Profil(62_000, evolution=0.02),
    "pre_sorties_positives": Profil(58, 24_000, 0.02),
    "pvd_chefs_de_projet": Profil(76, 1_646, 0.03),
    "st3_distance_secteur": Profil(57, 21_000, 0.03),
    "st3_offres_deposees": Profil(33_000, evolution=0.04),
    "st3_taux_couverture": Profil(49, 68_000, 0.06),
    "te_budget_participatif": Profil(2.3, 900_000_000, 0.06),
    "thd_subvention_par_prise": Profil(640, 1_700_000, -0.02),
    "ts_msp_appuyees": Profil(1_350, evolution=0.06),
}
# Where a unit alone must do; a share is about half, a count is a few thousand a year.
PAR_UNITE = {
    "%": Profil(52, 30_000, 0.03),
    "points": Profil(2.0, 12_000, 0.02),
    "pour 1 000": Profil(8.0, 5_000_000, 0.03),
    "jours": Profil(90, 9_000, -0.02),
    "€": Profil(30_000_000),
    "habitants": Profil(3_000_000),
}
ORDINAIRE = Profil(4_000)


def profil(indicateur: Indicateur) -> Profil:
    """The order of magnitude of an indicator, by its id, else by its unit."""
    unit = indicateur.unite
    if indicateur.indicateur_id in PROFILS:
        return PROFILS[indicateur.indicateur_id]
    if unit.startswith("note"):
        return Profil(6.8, 12_000, 0.01)
    if "/" in unit:
        return Profil(45, 60_000, 0.02)
    return PAR_UNITE.get(unit, ORDINAIRE)


def _where_it_acts(intervention_id: str) -> tuple[str, ...] | None:
    """The only départements of an intervention, or None for the whole country."""
    return {"bassin_minier": ("59", "62"), "montagne": MONTAGNE}.get(intervention_id)


def reported(seed: int, where: Territoires, besoins: Besoins, short: dict[str, str]) -> pl.DataFrame:
    """One report per département, year and indicator: columns of an action, done, with quantity and reference.

    The quantity is the numerator of a ratio, the mean of a weighted mean, the value itself otherwise; the reference is
    the denominator or the weight. A département keeps its own level over the years.
    """
    import numpy as np
    import polars as pl

    homes = where.departements
    size = np.array(homes["population"].to_numpy(), float) ** 0.8
    size /= size.sum()
    years = np.arange(len(ANNEES))
    parts = []
    for owner, indicateur in besoins.indicateurs:
        rng = chance(seed, f"indicateur {indicateur.indicateur_id}")
        shape, calcul = profil(indicateur), indicateur.calcul
        only = _where_it_acts(owner)
        share = np.where(np.isin(homes["code"].to_numpy(), only), size, 0) if only else size
        share = share / share.sum()
        own = np.exp(rng.normal(0, 0.16, homes.height))[:, None]
        noise = rng.normal(1, 0.035, (homes.height, len(ANNEES)))
        level = shape.valeur * own * (1 + shape.evolution) ** years * noise
        ratio = calcul is not None and calcul.type == "ratio"
        mean = calcul is not None and calcul.type == "moyenne_ponderee"
        reference = np.full(level.shape, np.nan)
        if ratio or mean:
            drift = np.exp(rng.normal(0, 0.05, level.shape))
            reference = np.maximum((shape.reference * share[:, None] * drift).round(), 14)
        if ratio and indicateur.unite == "%":
            # A share slows down as it nears 100 %.
            share_of = level / 100
            share_of = np.clip(share_of / (1 + np.clip(share_of - 0.75, 0, None)), 0.01, 0.985)
            quantity = rng.binomial(reference.astype(np.int64), share_of).astype(float)
        elif ratio:
            quantity = (reference * level / (calcul.facteur or 1)).round(2)
        elif mean or calcul is None or calcul.type == "valeur":
            bound = 10 if indicateur.unite.startswith("note") else np.inf
            quantity = np.clip(level, 0, bound).round(2)
        else:
            quantity = np.maximum((level * share[:, None]).round(), 1)
        # Whom the value rests on: statistical secrecy looks at them, not at the value.
        whom = rng.lognormal(5.5, 0.5, level.shape)
        if "€" not in indicateur.unite:
            whom = reference if ratio or mean else np.maximum(quantity, whom)
        frame = pl.DataFrame({
            "departement_code": np.repeat(homes["code"].to_numpy(), len(ANNEES)),
            "annee": np.tile(ANNEES, homes.height),
            "quantite": quantity.ravel(), "quantite_reference": reference.ravel(),
            "beneficiaires": np.clip(whom.ravel(), 14, 2_000_000).astype(np.int64),
        }).with_columns(pl.col("quantite_reference").fill_nan(None), pl.col("annee").cast(pl.Int64))  # fmt: skip
        if only:
            frame = frame.filter(pl.col("departement_code").is_in(only))
        parts.append(frame.with_columns(
            intervention_id=pl.lit(owner), indicateur_id=pl.lit(indicateur.indicateur_id),
            unite=pl.lit(indicateur.unite),
        ))  # fmt: skip
    schema = {
        "departement_code": pl.String, "annee": pl.Int64, "quantite": pl.Float64, "quantite_reference": pl.Float64,
        "beneficiaires": pl.Int64, "intervention_id": pl.String, "indicateur_id": pl.String, "unite": pl.String,
    }  # fmt: skip
    rows = pl.concat([pl.DataFrame(schema=schema), *parts])
    code = pl.col("intervention_id").replace_strict(short, return_dtype=pl.String)
    return rows.with_columns(
        action_id=pl.concat_str("departement_code", pl.lit("-"), code, pl.lit("-R"), _rank_of(rows), pl.lit("-"), "annee"),
        territoire_niveau=pl.lit("departement"), territoire_code="departement_code", statut=pl.lit("achevée"),
        jalon=pl.lit("service"), date_debut=pl.date("annee", 1, 1), date_achevement=pl.date("annee", 12, 31),
    )  # fmt: skip


def _rank_of(rows: pl.DataFrame) -> pl.Series:
    """Rank of an indicator among those of its intervention, as text."""
    import polars as pl

    known = rows.select("intervention_id", "indicateur_id").unique(maintain_order=True).with_columns(
        rang=pl.int_range(1, pl.len() + 1).over("intervention_id").cast(pl.String).str.zfill(2)
    )  # fmt: skip
    return rows.join(known, on=["intervention_id", "indicateur_id"], how="left", maintain_order="left")["rang"]


# --- targets ---------------------------------------------------------------------------------------------------

MOTIFS = (
    "objectif du contrat signé avec la région", "objectif fixé par le comité local de cohésion territoriale",
    "niveau constaté dans les départements comparables", "trajectoire arrêtée à la signature",
    "priorité du plan de relance",
)  # fmt: skip
MOTIFS_REVISION = (
    "cible ramenée à ce que permet le budget voté", "cible relevée après un bon résultat à mi-parcours",
    "périmètre élargi à de nouvelles communes", "retard des chantiers pendant la crise sanitaire",
)  # fmt: skip


def objectifs(seed: int, where: Territoires, catalogue: Catalogue, besoins: Besoins) -> pl.DataFrame:
    """Dated targets by département for the internal indicators, one in five changed since by a second version.

    The share answered locally has the roadmap's own target, 90 %, in every département.
    """
    import numpy as np
    import polars as pl

    homes = where.departements["code"].to_numpy()
    owned = {
        i.indicateur_id: (item.intervention_id, i)
        for item in catalogue.interventions.values()
        for i in item.indicateurs
        if any(key.startswith("int_") for key in i.sources) and i.sens_favorable != "sans_objet"
    } | {i.indicateur_id: (owner, i) for owner, i in besoins.indicateurs if i.sens_favorable != "sans_objet"}
    parts = []
    for name, (owner, indicateur) in sorted(owned.items()):
        rng = chance(seed, f"objectif {name}")
        whole = name == "sm_part_reponse_locale"
        only = _where_it_acts(owner) or tuple(homes)
        chosen = [
            code
            for code, kept in zip(homes, rng.random(len(homes)) < (2 if whole else 0.35), strict=True)
            if kept and code in only
        ]
        shape, n = profil(indicateur), len(chosen)
        counts = indicateur.calcul is not None and indicateur.calcul.type == "somme"
        start = shape.valeur * np.exp(rng.normal(0, 0.2, n)) * (0.01 if counts else 1)
        gain = rng.uniform(0.1, 0.35, n) * (-1 if indicateur.sens_favorable == "baisse" else 1)
        share = indicateur.unite == "%"
        start = np.clip(start, 0, 82) if share else start
        target = np.full(n, 90.0) if whole else np.clip(start * (1 + gain), 0, 100) if share else start * (1 + gain)
        if whole:
            start = rng.uniform(72, 89, n)
        parts.append(pl.DataFrame({
            "departement_code": chosen, "valeur_initiale": start.round(2), "valeur_cible": target.round(2),
            "_revu": (rng.random(n) < 0.2) & (not whole), "_facteur": rng.choice([0.92, 1.06], size=n),
        }, schema_overrides={"departement_code": pl.String}).with_columns(
            indicateur_id=pl.lit(name), intervention_id=pl.lit(owner), _part=pl.lit(share),
        ))  # fmt: skip
    first = pl.concat(parts).with_columns(version=pl.lit(1, pl.Int64))
    moved = pl.col("valeur_initiale") + (pl.col("valeur_cible") - pl.col("valeur_initiale")) * pl.col("_facteur")
    second = first.filter("_revu").with_columns(
        version=pl.lit(2, pl.Int64),
        valeur_cible=pl.when("_part").then(pl.min_horizontal(moved, pl.lit(100.0))).otherwise(moved).round(2),
    )  # fmt: skip
    rows = pl.concat([first, second]).sort("indicateur_id", "departement_code", "version")
    rng, size = chance(seed, "décisions"), rows.height
    later = (rows["version"] == 2).to_numpy()
    decided = year_start(np.where(later, 2023, 2021)) + rng.integers(10, 330, size)
    reason = pl.Series(MOTIFS).gather(rng.integers(len(MOTIFS), size=size))
    revised = pl.Series(MOTIFS_REVISION).gather(rng.integers(len(MOTIFS_REVISION), size=size))
    office = pl.Series(
        ("délégué territorial", "déléguée territoriale", "sous-préfet à la relance", "directeur de programme")
    )
    return rows.select(
        "indicateur_id", territoire_niveau=pl.lit("departement"), territoire_code="departement_code", version="version",
        departement_code="departement_code", valeur_initiale="valeur_initiale",
        date_initiale=pl.date(2020, 12, 31), valeur_cible="valeur_cible", date_cible=pl.date(2026, 12, 31),
        date_decision=dates("date_decision", decided),
        auteur_fonction=office.gather(rng.integers(len(office), size=size)),
        auteur_nom=names(rng, size, 0.9), motif=pl.when(pl.col("version") == 2).then(revised).otherwise(reason),
        intervention_id="intervention_id",
    )  # fmt: skip

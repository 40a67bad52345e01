"""Page d'un territoire : qui y agit, et où il se situe parmi ses comparables."""

import marimo

app = marimo.App(app_title="Territoire", width="medium")


@app.cell
def _():
    import marimo as mo

    from notebooks.kit import figures, page
    from notebooks.kit.release import open_release

    return figures, mo, open_release, page


@app.cell
def _(open_release):
    release = open_release()
    return (release,)


@app.cell
def _(mo, release):
    _places = release.query(
        "select territoire_niveau || ':' || territoire_code as cle, territoire_nom || ' (' || territoire_niveau || ' ' || territoire_code || ')' as nom "
        "from dim_territoire where est_pivot and territoire_niveau in ('region', 'departement', 'epci', 'commune') order by territoire_niveau desc, territoire_nom"
    )
    choix = mo.ui.dropdown(dict(_places.select("nom", "cle").iter_rows()), value=_places["nom"][0], label="Territoire", searchable=True)
    choix
    return (choix,)


@app.cell
def _(choix):
    niveau, code = choix.value.split(":")
    return code, niveau


@app.cell
def _(code, niveau, release):
    territoire = release.one(
        "select * from dim_territoire where est_pivot and territoire_niveau = ? and territoire_code = ?", niveau, code
    )
    interventions = release.query(
        "select * from mart_intervention_du_territoire where territoire_niveau = ? and territoire_code = ? order by intervention_nom",
        niveau, code,
    )
    situation = release.query(
        "select s.*, i.libelle, i.unite, i.sens_favorable, i.domaine from mart_situation as s "
        "inner join dim_indicateur as i using (indicateur_id) where territoire_niveau = ? and territoire_code = ? order by i.libelle",
        niveau, code,
    )
    comparables = release.query(
        "select t.territoire_nom from bridge_territoire_comparable as b inner join dim_territoire as t "
        "on t.territoire_niveau = b.territoire_niveau and t.territoire_code = b.comparable_code and t.est_pivot "
        "where b.territoire_niveau = ? and b.territoire_code = ? order by b.rang",
        niveau, code,
    )
    observations = release.query(
        "select o.*, i.libelle, i.domaine from fct_observation as o inner join dim_indicateur as i using (indicateur_id) "
        "where o.territoire_niveau = ? and o.territoire_code = ? and o.est_derniere_version and o.valeur is not null "
        "order by i.libelle, o.periode_debut",
        niveau, code,
    )
    return comparables, interventions, observations, situation, territoire


@app.cell
def _(code, comparables, figures, interventions, niveau, observations, page, release, situation, territoire):
    import polars as _pl

    _noms = {"commune": "commune", "epci": "intercommunalité", "departement": "département", "region": "région"}
    feuille = release.page(f"{territoire['territoire_nom']} ({_noms[niveau]} {code})", "..")
    feuille.add(
        page.paragraph(
            f"{page.number(territoire['population'])} habitants. Ce que l'on sait des interventions de l'ANCT ici, et où ce territoire "
            "se situe parmi des territoires comparables. Une comparaison n'est pas un effet : elle ne dit pas ce qui l'explique."
        ),
        page.heading("Qui agit ici"),
    )
    if interventions.height:
        feuille.add(
            page.table(
                interventions.with_columns(_lien="../interventions/" + _pl.col("intervention_id") + ".html"),
                "Interventions présentes, d'après les listes en main",
                {"intervention_nom": "Intervention", "communes": "Communes touchées", "part_population": "Part de la population (%)", "premiere_date": "Depuis"},
                links={"intervention_nom": "_lien"},
            )
        )  # fmt: skip
    else:
        feuille.add(page.paragraph("Aucune liste en main ne cite ce territoire, ni une de ses communes."))
    feuille.add(page.heading("Situation parmi des territoires comparables"))
    _compares = situation.filter(_pl.col("mediane_comparables").is_not_null())
    if _compares.height:
        feuille.add(
            page.paragraph("Comparables, fixés d'après leur taille, leur revenu et leur croissance avant 2017 : " + ", ".join(comparables["territoire_nom"]) + "."),
            page.table(
                _compares.with_columns(
                    periode=_pl.struct("periode_debut", "periode_fin").map_elements(lambda p: page.period(p["periode_debut"], p["periode_fin"]), return_dtype=_pl.String),
                    place=_pl.col("rang").cast(_pl.String) + " sur " + (_pl.col("comparables") + 1).cast(_pl.String),
                ),
                "Dernière valeur, médiane et quartiles des comparables ; rang de la plus grande valeur à la plus petite",
                {"libelle": "Indicateur", "periode": "Période", "valeur": "Ici", "quartile_bas_comparables": "1er quartile", "mediane_comparables": "Médiane",
                 "quartile_haut_comparables": "3e quartile", "place": "Rang", "evolution": "Évolution ici", "evolution_mediane_comparables": "Évolution médiane", "unite": "Unité"},
            ),
        )  # fmt: skip
    else:
        feuille.add(page.paragraph("Aucun indicateur n'a de valeur à la fois ici et chez cinq territoires comparables."))
    feuille.add(page.heading("Évolutions"))
    _riches = (
        observations.filter(_pl.col("domaine").is_not_null())
        .group_by("indicateur_id", maintain_order=True)
        .agg(_pl.len().alias("n"), _pl.col("libelle").first(), _pl.col("unite").first())
        .filter(_pl.col("n") >= 4).sort("n", "indicateur_id", descending=[True, False]).head(4)
    )  # fmt: skip
    for _row in _riches.to_dicts():
        _serie = observations.filter(_pl.col("indicateur_id") == _row["indicateur_id"])
        _points = _serie.select(date="periode_fin", valeur="valeur", serie=_pl.lit(territoire["territoire_nom"]) + _pl.when(_pl.col("serie") > 1).then(_pl.lit(" (autre série)")).otherwise(_pl.lit("")))
        _alt = (
            f"{_row['libelle']}, {territoire['territoire_nom']} : de {page.number(_serie['valeur'][0])} ({page.day(_serie['periode_fin'][0])}) "
            f"à {page.number(_serie['valeur'][-1])} {_row['unite']} ({page.day(_serie['periode_fin'][-1])})."
        )
        feuille.add(page.figure(figures.trajectory(_points, _row["unite"] or "", _alt, feuille.demonstration), _alt))
    if not _riches.height:
        feuille.add(page.paragraph("Aucun indicateur de vie quotidienne n'a ici quatre valeurs ou plus."))
    feuille.sources = release.citations(sorted({*situation["source_id"], *observations["source_id"]}))
    return (feuille,)


@app.cell
def _(feuille, mo):
    mo.Html(feuille.body())
    return


if __name__ == "__main__":
    app.run()

"""Sommaire : la première page, d'où chaque autre est à un ou deux gestes."""

import marimo

app = marimo.App(app_title="Sommaire", width="medium")


@app.cell
def _():
    import marimo as mo
    import polars as pl

    from notebooks.kit import page
    from notebooks.kit.release import open_release
    from notebooks.kit.render import TERRITOIRES

    return TERRITOIRES, mo, open_release, page, pl


@app.cell
def _(open_release):
    release = open_release()
    return (release,)


@app.cell
def _(TERRITOIRES, release):
    interventions = release.query("select * from mart_tableau_de_bord order by section, intervention_nom")
    promesses = release.query("select * from mart_promesse order by rang")
    territoires = release.query(TERRITOIRES)
    return interventions, promesses, territoires


@app.cell
def _(interventions, page, pl, promesses, release, territoires):
    feuille = release.page("Ce que change chaque intervention de l'ANCT", name="index.html")
    _mesurees, _expliquees, _estimees = promesses.to_dicts()
    feuille.add(
        page.paragraph(
            "La feuille de route 2020 de l'Agence nationale de la cohésion des territoires promet que « chacune des interventions "
            "territorialisées de l'ANCT doit avoir un impact mesurable sur les politiques publiques conduites territorialement ainsi que "
            "sur la vie quotidienne des habitants ». Ces pages disent, pour chacune des "
            f"{interventions.height} interventions, ce que l'on en sait, à quel point on en est sûr, et depuis quand."
        ),
        page.paragraph(
            f"Aujourd'hui, {_mesurees['numerateur']} interventions sur {_mesurees['denominateur']} sont mesurées à la fois sur les politiques publiques et sur la vie "
            f"quotidienne ; l'effet est estimé pour {_estimees['numerateur']}, et la raison est dite pour les "
            f"{_expliquees['numerateur'] - _estimees['numerateur']} autres."
        ),
        page.items(
            [
                page.link("tableau_de_bord.html", "Tableau de bord") + " : toutes les interventions sur une page",
                page.link("sur_mesure.html", "Sur-mesure") + " : la promesse des 90 % de réponses locales",
                page.link("qualite_et_methode.html", "Qualité et méthode") + " : fraîcheur, contrôles, et ce que les chiffres ne disent pas",
                page.link("dictionnaire/index.html", "Dictionnaire") + " : chaque table, chaque colonne, chaque source",
            ],
            html=True,
        ),
        page.heading("Territoires"),
        page.paragraph("Qui agit ici, la promesse est-elle tenue, et où se situe ce territoire parmi ses comparables."),
    )
    for _region in territoires.filter(pl.col("territoire_niveau") == "region").to_dicts():
        _membres = territoires.filter((pl.col("territoire_niveau") == "departement") & (pl.col("region_code") == _region["territoire_code"])).sort("territoire_code")
        feuille.add(
            f"<h3>{page.link('territoires/region-' + _region['territoire_code'] + '.html', _region['territoire_nom'])}</h3>",
            page.links(
                [(f"territoires/departement-{d['territoire_code']}.html", f"{d['territoire_nom']} ({d['territoire_code']})") for d in _membres.to_dicts()]
            ),
        )
    _seules = territoires.filter((pl.col("territoire_niveau") == "departement") & pl.col("region_code").is_null())
    if _seules.height:
        feuille.add("<h3>Collectivités d'outre-mer</h3>", page.links(
            [(f"territoires/departement-{d['territoire_code']}.html", f"{d['territoire_nom']} ({d['territoire_code']})") for d in _seules.to_dicts()]))  # fmt: skip
    feuille.add(
        page.paragraph(
            "Pour une intercommunalité ou une commune : « dk notebooks render --territoire commune:23096 » écrit sa page, et « dk notebooks serve » les ouvre toutes.", "note"),
        page.heading("Interventions"),
    )  # fmt: skip
    for (_section,), _part in interventions.group_by("section", maintain_order=True):
        feuille.add(
            page.table(
                _part.with_columns(
                    _lien=pl.concat_str(pl.lit("interventions/"), "intervention_id", pl.lit(".html")),
                    promesse=pl.col("etat_promesse").map_elements(page.state, return_dtype=pl.String),
                ),
                f"Feuille de route, section {_section}",
                {"intervention_nom": "Intervention", "forme": "Forme", "promesse": "Promesse d'un impact mesurable"},
                links={"intervention_nom": "_lien"}, html=["promesse"],
            )
        )  # fmt: skip
    return (feuille,)


@app.cell
def _(feuille, mo):
    mo.Html(feuille.live())
    return


if __name__ == "__main__":
    app.run()

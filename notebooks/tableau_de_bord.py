"""Tableau de bord : toutes les interventions sur une page, leurs trois réponses, ce qui bouge, ce que l'on ignore."""

import marimo

app = marimo.App(app_title="Tableau de bord", width="medium")


@app.cell
def _():
    import marimo as mo
    import polars as pl

    from notebooks.kit import figures, page
    from notebooks.kit.release import open_release

    return figures, mo, open_release, page, pl


@app.cell
def _(open_release):
    release = open_release()
    return (release,)


@app.cell
def _(mo, release):
    _formes = release.query("select distinct forme from mart_tableau_de_bord order by forme")["forme"].to_list()
    choix = mo.ui.multiselect(_formes, value=_formes, label="Formes d'intervention")
    choix
    return (choix,)


@app.cell
def _(choix):
    formes = list(choix.value)
    return (formes,)


@app.cell
def _(formes, release):
    reponses = release.query("select * from mart_tableau_de_bord where list_contains(?, forme) order by section, intervention_nom", formes)
    promesses = release.query("select * from mart_promesse order by rang")
    evolutions = release.query(
        "select e.*, i.libelle, i.unite, count(*) as interventions from mart_evolution as e "
        "inner join dim_indicateur as i using (indicateur_id) inner join bridge_intervention_indicateur as p using (indicateur_id) "
        "where p.portee = 'vie_quotidienne' group by all order by i.libelle"
    )
    retards = release.query(
        "select s.titre, s.producteur, f.statut, f.motif, f.dernier_publie_le from mart_fraicheur as f "
        "inner join dim_source as s using (source_id) where f.statut <> 'à jour' order by f.statut, s.titre"
    )
    return evolutions, promesses, reponses, retards


@app.cell
def _(evolutions, figures, page, pl, promesses, release, reponses, retards):
    feuille = release.page("Tableau de bord", name="tableau_de_bord.html")
    _demo = feuille.demonstration
    feuille.add(
        page.paragraph(
            "Trois questions différentes, jamais mêlées : où en est-on des cibles (avancement), où se situent les territoires touchés parmi "
            "leurs comparables (situation), et ce que l'intervention change (impact). Une bonne situation n'est pas un effet."
        ),
        page.heading("La promesse de la feuille de route"),
        page.quote(
            "« Chacune des interventions territorialisées de l'ANCT doit avoir un impact mesurable sur les politiques publiques conduites "
            "territorialement ainsi que sur la vie quotidienne des habitants. »"
        ),
        page.table(
            promesses, "Où en est cette promesse",
            {"libelle": "Engagement", "numerateur": "Interventions", "denominateur": "sur", "part": "Part (%)", "cible": "Cible (%)"}, {"part": 0},
        ),
    )  # fmt: skip

    _ordre = ["positif", "négatif", "non concluant", "non crédible", "non estimable"]
    _comptes = dict(reponses.group_by("etat_impact").len().iter_rows())
    _impacts = pl.DataFrame({"nom": [e.capitalize() for e in _ordre], "valeur": [_comptes.get(e, 0) for e in _ordre], "inconnu": [e.startswith("non") for e in _ordre]})
    _alt = "Interventions selon ce que l'on sait de leur impact : " + ", ".join(f"{_comptes.get(e, 0)} {e}{'s' if _comptes.get(e, 0) > 1 else ''}" for e in _ordre) + "."
    feuille.add(
        page.heading("Ce que l'on sait de l'impact"),
        page.figure(figures.bars(_impacts, "", _alt, _demo), _alt + " En hachuré : rien ne permet de dire si l'intervention change quelque chose, ni dans quel sens."),
        page.paragraph(
            "Non concluant : l'intervalle contient zéro, un effet plus petit que l'effet minimal détectable a pu échapper. Non crédible : un calcul existe, mais une "
            "épreuve d'identification échoue, et son signe n'est pas montré. Non estimable : la raison est dite sur la page de l'intervention.", "note"),
        page.heading("Les interventions"),
    )  # fmt: skip
    for (_section,), _part in reponses.group_by("section", maintain_order=True):
        feuille.add(
            page.table(
                _part.with_columns(
                    pl.concat_str(pl.lit("interventions/"), "intervention_id", pl.lit(".html")).alias("_lien"),
                    *(pl.col(c).map_elements(page.state, return_dtype=pl.String).alias(c) for c in ("etat_promesse", "etat_avancement", "etat_situation", "etat_impact")),
                    donnees=pl.when("est_en_retard").then(pl.lit("en retard")).when(pl.col("sources") == 0).then(pl.lit("aucune")).otherwise(pl.lit("à jour")),
                ),
                f"Section {_section} de la feuille de route",
                {"intervention_nom": "Intervention", "etat_promesse": "Promesse", "etat_avancement": "Avancement", "etat_situation": "Situation", "etat_impact": "Impact", "donnees": "Données"},
                links={"intervention_nom": "_lien"}, html=["etat_promesse", "etat_avancement", "etat_situation", "etat_impact"],
            )
        )  # fmt: skip

    _libelles = {
        "amélioration": "Ce qui s'améliore dans la vie quotidienne",
        "dégradation": "Ce qui se dégrade dans la vie quotidienne",
        "stable": "Ce qui n'a pas bougé",
    }
    feuille.add(
        page.heading("Ce qui bouge au niveau national"),
        page.paragraph(
            "Valeurs nationales des indicateurs de vie quotidienne suivis par au moins une intervention, de la dernière connue à fin 2017 (sinon la première "
            "de la même série) à la dernière connue. Ces mouvements ne disent rien de ce qui les explique."),
    )  # fmt: skip
    for _etat, _titre in _libelles.items():
        _part = evolutions.filter(pl.col("etat") == _etat)
        if _part.height:
            feuille.add(page.table(
                _part, f"{_titre} ({_part.height})",
                {"libelle": "Indicateur", "valeur_initiale": "De", "date_initiale": "Au", "valeur_actuelle": "À", "date_actuelle": "Au ", "unite": "Unité", "connue_le": "Connu le"},
            ))  # fmt: skip
    if not evolutions.height:
        feuille.add(page.paragraph("Aucun indicateur de vie quotidienne n'a deux valeurs nationales comparables dans cette publication."))

    _ignorees = reponses.filter(pl.col("etat_promesse") == "non mesurée")
    feuille.add(
        page.heading("Ce que l'on ne sait pas"),
        page.paragraph(f"{_ignorees.height} interventions sur {reponses.height} n'ont pas de valeur sur les politiques publiques ou sur la vie quotidienne :"),
        page.links([(f"interventions/{i}.html", n) for i, n in _ignorees.select("intervention_id", "intervention_nom").iter_rows()]),
        page.heading("Ce qui est en retard"),
    )
    if retards.height:
        feuille.add(page.table(
            retards, "Sources en retard, incomplètes ou absentes : leurs chiffres sont ceux de la dernière bonne version",
            {"titre": "Source", "producteur": "Producteur", "statut": "État", "dernier_publie_le": "Dernière publication", "motif": "Pourquoi"},
        ))  # fmt: skip
    else:
        feuille.add(page.paragraph("Aucune source n'est en retard, incomplète ou absente."))
    feuille.sources = release.citations(sorted(set(evolutions["source_id"])))
    return (feuille,)


@app.cell
def _(feuille, mo):
    mo.Html(feuille.live())
    return


if __name__ == "__main__":
    app.run()

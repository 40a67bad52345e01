"""Page d'une intervention : sa promesse, où elle agit, ce qui est fait, où cela en est, et ce que l'on sait de son effet."""

import marimo

app = marimo.App(app_title="Intervention", width="medium")


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
    _noms = release.query("select intervention_nom, intervention_id from dim_intervention order by intervention_nom")
    choix = mo.ui.dropdown(dict(_noms.iter_rows()), value=_noms["intervention_nom"][0], label="Intervention", searchable=True)
    choix
    return (choix,)


@app.cell
def _(choix):
    intervention_id = choix.value
    return (intervention_id,)


@app.cell
def _(intervention_id, release):
    intervention = release.one("select * from dim_intervention where intervention_id = ?", intervention_id)
    reponses = release.one("select * from mart_tableau_de_bord where intervention_id = ?", intervention_id)
    couverture = release.one("select * from mart_couverture where intervention_id = ?", intervention_id)
    presence = release.query(
        "select * from mart_intervention_du_territoire where intervention_id = ? and territoire_niveau = 'departement'", intervention_id
    )
    indicateurs = release.query(
        "select p.portee, p.est_englobant, p.note as note_lien, i.* from bridge_intervention_indicateur as p "
        "inner join dim_indicateur as i using (indicateur_id) where p.intervention_id = ? order by p.portee, i.libelle",
        intervention_id,
    )
    nationales = release.query(
        "select o.* from fct_observation as o inner join bridge_intervention_indicateur as p using (indicateur_id) "
        "where p.intervention_id = ? and o.territoire_niveau = 'national' and o.est_derniere_version order by o.periode_debut",
        intervention_id,
    )
    avancements = release.query(
        "select a.*, i.libelle, i.unite from mart_avancement as a inner join bridge_intervention_indicateur as p using (indicateur_id) "
        "inner join dim_indicateur as i using (indicateur_id) where p.intervention_id = ? and a.territoire_niveau = 'national' order by i.libelle",
        intervention_id,
    )
    situations = release.query(
        "select s.*, i.libelle, i.unite from mart_situation_intervention as s inner join dim_indicateur as i using (indicateur_id) "
        "where s.intervention_id = ? order by i.libelle, s.territoire_niveau",
        intervention_id,
    )
    estimations = release.query(
        "select m.*, i.libelle, i.unite as unite_indicateur from mart_impact as m inner join dim_indicateur as i using (indicateur_id) "
        "where m.intervention_id = ? order by m.rang, m.estimation_id",
        intervention_id,
    )
    evenements = release.query(
        "select e.* from mart_impact_evenement as e inner join mart_impact as m using (estimation_id) "
        "where m.intervention_id = ? and e.composition = 'toutes' order by e.estimation_id, e.delai",
        intervention_id,
    )
    equilibre = release.query(
        "select e.* from mart_equilibre as e inner join mart_impact as m using (estimation_id) where m.intervention_id = ? order by e.estimation_id, e.nature, e.variable",
        intervention_id,
    )
    chevauchements = release.query(
        "select c.*, i.intervention_nom from mart_chevauchement as c inner join dim_intervention as i on i.intervention_id = c.autre_intervention_id "
        "where c.intervention_id = ? order by c.communes desc limit 8",
        intervention_id,
    )
    return (
        avancements, chevauchements, couverture, equilibre, estimations, evenements, indicateurs, intervention, nationales, presence,
        reponses, situations,
    )  # fmt: skip


@app.cell
def _(
    avancements, chevauchements, couverture, equilibre, estimations, evenements, figures, indicateurs, intervention, nationales, page,
    pl, presence, release, reponses, situations,
):  # fmt: skip
    feuille = release.page(intervention["intervention_nom"], "..")
    _demo = feuille.demonstration
    _ou = " · ".join(x for x in (intervention["thematique"], intervention["politique_publique"], intervention["modalite"]) if x)
    feuille.add(
        page.paragraph(f"Feuille de route 2020, section {intervention['section']}. {_ou}", "note"),
        page.heading("La promesse"),
        page.quote(intervention["promesse"]) if intervention["promesse"] else page.paragraph("La feuille de route nomme cette intervention sans promettre davantage."),
        page.heading("Trois réponses"),
        page.answers([
            ("Avancement : " + reponses["etat_avancement"], reponses["phrase_avancement"]),
            ("Situation : " + reponses["etat_situation"], reponses["phrase_situation"]),
            ("Impact : " + reponses["etat_impact"], reponses["phrase_impact"]),
        ]),
        page.paragraph("Trois questions différentes : où en est-on de la cible, où se situent les territoires, qu'est-ce que l'intervention change. Aucune ne répond à une autre.", "note"),
    )  # fmt: skip
    if reponses["est_en_retard"]:
        feuille.add(page.paragraph(f"{reponses['sources_en_retard']} source(s) en retard : les chiffres sont ceux de la dernière bonne version.", "mauvais"))

    feuille.add(page.heading("Où elle agit"))
    if presence.height:
        _valeurs = dict(presence.select("territoire_code", "part_population").iter_rows())
        _total = presence["communes"].sum()
        _alt = f"Part de la population vivant dans une commune touchée, par département : {presence.height} départements, {page.number(_total)} communes."
        feuille.add(page.figure(
            figures.departements({c: _valeurs.get(c) for c in figures.drawing()["departements"]}, {c: "pas d'intervention" for c in figures.drawing()["departements"]}, "%", _alt, _demo),
            f"{_alt} {figures.drawing()['citation']}",
        ))  # fmt: skip
        feuille.add(page.paragraph(f"{couverture['territoires_actifs']} territoires au dernier état des listes, dont {couverture['territoires_actifs_dates']} datés."))
    else:
        feuille.add(page.paragraph(couverture["motif_sans_territoire"] or "Les territoires connus ne se rattachent à aucune commune."))

    feuille.add(page.heading("Ce qui est fait, et ce qui change pour les habitants"))
    _dernieres = nationales.group_by("indicateur_id", maintain_order=True).last()
    for _portee, _titre in (("politique_publique", "Politique publique"), ("vie_quotidienne", "Vie quotidienne")):
        _part = indicateurs.filter(pl.col("portee") == _portee).join(
            _dernieres.select("indicateur_id", "valeur", "periode_debut", "periode_fin", "statut_valeur"), on="indicateur_id", how="left", maintain_order="left"
        )
        _part = _part.with_columns(
            dit=pl.when(pl.col("valeur").is_not_null()).then(pl.col("statut_valeur"))
            .otherwise(pl.coalesce("statut_valeur", pl.lit("sans valeur nationale") + pl.when(pl.col("motif_sans_valeur").is_not_null()).then(pl.lit(" : ") + pl.col("motif_sans_valeur")).otherwise(pl.lit("")))),
            sens=pl.col("sens_favorable").replace({"sans_objet": "–"}), englobe=pl.when("est_englobant").then(pl.lit("territoire englobant")).otherwise(pl.lit("")),
        )  # fmt: skip
        feuille.add(
            page.table(_part, f"{_titre} : dernière valeur nationale",
                       {"libelle": "Indicateur", "valeur": "Valeur", "unite": "Unité", "periode_fin": "Au", "dit": "État", "sens": "Favorable", "englobe": ""})
        )  # fmt: skip

    feuille.add(page.heading("Avancement"))
    _taux = avancements.filter(pl.col("taux_avancement").is_not_null())
    if avancements.height:
        feuille.add(page.table(
            avancements, "Vers la cible nationale (le taux n'est pas borné : un recul est négatif, un dépassement dépasse 100)",
            {"libelle": "Indicateur", "valeur_initiale": "Départ", "date_initiale": "le", "valeur_actuelle": "Aujourd'hui", "date_actuelle": "au", "valeur_cible": "Cible", "date_cible": "pour le", "taux_avancement": "Taux (%)", "unite": "Unité", "motif": "Sans taux"},
            {"taux_avancement": 1},
        ))  # fmt: skip
        for _ligne in _taux.head(2).to_dicts():
            _serie = nationales.filter((pl.col("indicateur_id") == _ligne["indicateur_id"]) & pl.col("valeur").is_not_null())
            _points = pl.concat([
                _serie.select(date="periode_fin", valeur="valeur", serie=pl.lit("valeur")),
                pl.DataFrame({"date": [_ligne["date_initiale"], _ligne["date_cible"]], "valeur": [_ligne["valeur_initiale"], _ligne["valeur_cible"]], "serie": ["chemin vers la cible"] * 2}),
            ]).drop_nulls()  # fmt: skip
            _alt = f"{_ligne['libelle']} : {page.number(_ligne['valeur_actuelle'])} au {page.day(_ligne['date_actuelle'])}, cible {page.number(_ligne['valeur_cible'])} pour le {page.day(_ligne['date_cible'])}."
            feuille.add(page.figure(figures.trajectory(_points, _ligne["unite"] or "", _alt, _demo), _alt))
    else:
        feuille.add(page.paragraph("Aucune cible nationale n'est publiée ni déclarée pour ses indicateurs. La feuille de route n'en donne pas, sauf pour le sur-mesure."))

    feuille.add(page.heading("Situation"))
    _orientees = situations.filter(pl.col("part_favorable").is_not_null())
    if _orientees.height:
        feuille.add(page.table(
            _orientees, "Territoires de l'intervention mieux placés que la médiane de leurs comparables",
            {"libelle": "Indicateur", "territoire_niveau": "Maille", "territoires": "Territoires", "part_favorable": "Mieux placés (%)", "part_evolution_favorable": "Évoluent mieux (%)", "ecart_median": "Écart médian", "unite": "Unité", "periode_fin": "Au"},
            {"part_favorable": 0, "part_evolution_favorable": 0},
        ), page.paragraph("Être mieux ou moins bien placé ne dit rien de l'effet : les interventions choisissent leurs territoires.", "note"))  # fmt: skip
    else:
        feuille.add(page.paragraph(reponses["phrase_situation"].capitalize() + "."))

    feuille.add(page.heading("Impact"))
    if not estimations.height:
        feuille.add(page.paragraph(reponses["phrase_impact"].capitalize() + "."))
    for _plan in estimations.to_dicts():
        feuille.add(
            page.heading(f"{_plan['libelle']} ({_plan['rang']})", 3),
            page.paragraph(_plan["phrase"]),
            page.paragraph(
                f"Plan arrêté le {page.day(_plan['fixe_le'])} : {_plan['methode']}, {page.number(_plan['unites_traitees'])} unités traitées, "
                f"{page.number(_plan['unites_temoins'])} témoins, {page.number(_plan['periodes'])} périodes"
                + (f", estimateur {_plan['estimateur']}" if _plan["estimateur"] else "") + ".", "note"),
        )  # fmt: skip
        _autour = evenements.filter((pl.col("estimation_id") == _plan["estimation_id"]) & pl.col("effet").is_not_null())
        if _autour.height > 1:
            _unite = "points de logarithme" if _plan["transformation"] == "log" else _plan["unite_indicateur"] or ""
            _alt = f"{_plan['libelle']}, écart aux témoins année par année autour du début, avec sa bande à 95 % : {_plan['phrase']}"
            feuille.add(page.figure(
                figures.event_study(_autour.select(annee_relative="delai", effet="effet", borne_basse="bas", borne_haute="haut"), _unite, _alt, _demo),
                _alt + (" Seules les années d'avant sont montrées : l'effet n'est pas crédible." if _plan["statut"] == "non crédible" else ""),
            ))  # fmt: skip
        _avant = equilibre.filter(pl.col("estimation_id") == _plan["estimation_id"])
        if _avant.height:
            feuille.add(page.fold("Ressemblance des traités et des témoins avant le début", page.table(
                _avant, "Différences en écarts-types ; au-delà de 0,1 les groupes ne se ressemblent pas",
                {"variable": "Caractéristique", "moyenne_traitees": "Traités", "moyenne_temoins": "Témoins", "smd_brut": "Différence", "smd_ajuste": "Après pondération"},
            )))  # fmt: skip
    if chevauchements.height:
        feuille.add(page.heading("Autres interventions sur les mêmes communes", 3), page.table(
            chevauchements, "Un effet mesuré ici est celui d'un mélange",
            {"intervention_nom": "Intervention", "communes": "Communes", "part_communes": "Part (%)", "communes_deux_ans": "Débuts à moins de deux ans"},
        ))  # fmt: skip

    feuille.add(page.heading("Précautions"))
    _notes = [intervention["note"], couverture["motif_sans_territoire"], *indicateurs["note"].to_list(), *indicateurs["note_lien"].to_list()]
    feuille.add(page.items(list(dict.fromkeys(n for n in _notes if n))) if any(_notes) else page.paragraph("Aucune remarque particulière."))
    if couverture["manquants"]:
        feuille.add(page.fold("Ce qui n'est pas connu, et pourquoi", page.items(couverture["manquants"].split(" ; "))))
    feuille.add(page.paragraph(
        "Pour remonter d'un chiffre à sa règle, à ses contrôles et à ses octets : dk explain INDICATEUR TERRITOIRE, par exemple "
        f"dk explain {indicateurs['indicateur_id'][0]} national:FR.", "note"))  # fmt: skip
    feuille.sources = release.citations(sorted({*nationales["source_id"], *avancements["source_id"]}))
    return (feuille,)


@app.cell
def _(feuille, mo):
    mo.Html(feuille.body())
    return


if __name__ == "__main__":
    app.run()

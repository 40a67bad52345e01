"""Sur-mesure : la promesse que 90 % des demandes d'ingénierie trouvent une réponse locale, département par département."""

import marimo

app = marimo.App(app_title="Sur-mesure", width="medium")


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
def _(pl, release):
    _vide = pl.DataFrame()
    bilans = release.query(
        "select m.*, t.territoire_nom from mart_sur_mesure as m left join dim_territoire as t on t.est_pivot "
        "and t.territoire_niveau = m.territoire_niveau and t.territoire_code = m.territoire_code order by m.periode, m.territoire_code"
    ) if release.has("mart_sur_mesure") else _vide  # fmt: skip
    manquements = release.query(
        "select libelle, gravite, count(*) as manquements, count(distinct demande_id) as demandes, count(distinct departement_code) as departements "
        "from audit_protocole group by all order by gravite, manquements desc, libelle"
    ) if release.has("audit_protocole") else _vide  # fmt: skip
    contrats = release.query(
        "select c.*, i.intervention_nom from mart_contrat as c left join dim_intervention as i using (intervention_id) order by i.intervention_nom, c.departement_code, c.convention_id"
    ) if release.has("mart_contrat") else _vide  # fmt: skip
    consolidation = release.query(
        "select m.*, t.territoire_nom from mart_consolidation_annuelle as m left join dim_territoire as t on t.est_pivot and t.territoire_niveau = 'departement' "
        "and t.territoire_code = m.departement_code where annee = (select max(annee) from mart_consolidation_annuelle) order by m.departement_code, m.ordre, m.rubrique"
    ) if release.has("mart_consolidation_annuelle") else _vide  # fmt: skip
    return bilans, consolidation, contrats, manquements


@app.cell
def _(bilans, consolidation, contrats, figures, manquements, page, pl, release):
    feuille = release.page("Sur-mesure : l'offre d'ingénierie", name="sur_mesure.html")
    _demo = feuille.demonstration
    feuille.add(
        page.heading("La promesse"),
        page.quote("« 90 % des demandes d'ingénierie doivent pouvoir trouver une solution dans l'écosystème local. »"),
        page.paragraph(
            "Feuille de route 2020, II.c. Le délégué territorial désigne un interlocuteur unique, en rend compte au comité local de cohésion territoriale et, une fois par an, à l'ANCT. "
            "À défaut de réponse locale, il sollicite l'appui national en le justifiant."),
    )  # fmt: skip
    if not bilans.height:
        feuille.add(
            page.paragraph(
                "Cette publication ne contient aucun relevé de demandes d'ingénierie : on ne peut dire ni si la promesse des 90 % est tenue, ni en combien de temps un "
                "interlocuteur est désigné, ni quelles règles du protocole ne sont pas suivies. Ces relevés sont tenus par les délégués territoriaux ; aucun fichier public ne les remplace.",
                "attention"),
            page.paragraph("Ce qui est connu du sur-mesure par ailleurs est sur la page de l'intervention :"),
            page.links([("interventions/sur_mesure.html", "Le « sur-mesure »"), ("interventions/instruments_ingenierie.html", "Instruments d'ingénierie")]),
        )  # fmt: skip
    else:
        _annees = sorted(p for p in bilans["periode"].unique().to_list() if p != "toutes")
        _periode = "toutes" if "toutes" in bilans["periode"].to_list() else _annees[-1]
        _dite = f"demandes de {_annees[0]} à {_annees[-1]}" if _periode == "toutes" else f"demandes de {_periode}"
        _choisis = bilans.filter(pl.col("periode") == _periode)
        _pays = _choisis.filter(pl.col("territoire_niveau") == "national")
        feuille.add(page.heading("La promesse est-elle tenue ?"))
        for _ligne in _pays.to_dicts():
            if _ligne["part_reponse_locale"] is None:
                feuille.add(page.paragraph(page.sentence(f"{_dite} : {_ligne['motif'] or 'la part ne peut pas être montrée'}")))
                continue
            _verdict = (
                "la promesse est tenue" if _ligne["wilson_bas"] >= _ligne["cible"] else "la promesse n'est pas tenue" if _ligne["wilson_haut"] < _ligne["cible"]
                else "on ne peut pas conclure : l'intervalle contient la cible"
            )  # fmt: skip
            feuille.add(page.paragraph(
                f"Pays entier, {_dite} : {page.quantity(_ligne['part_reponse_locale'], '%', 1)} des {page.number(_ligne['demandes_closes'])} demandes closes ont trouvé une réponse locale "
                f"(intervalle à 95 % : de {page.quantity(_ligne['wilson_bas'], '%', 1)} à {page.quantity(_ligne['wilson_haut'], '%', 1)} ; cible : {page.quantity(_ligne['cible'], '%')}) ; {_verdict}. "
                f"Relevés connus le {page.day(_ligne['connue_le'])}."))  # fmt: skip
        _parts = bilans.filter((pl.col("territoire_niveau") == "national") & pl.col("part_reponse_locale").is_not_null()).sort("periode")
        if _parts.height:
            _alt = f"Part des demandes closes par une réponse locale, pays entier, par année de la demande, avec son intervalle à 95 % ; la ligne est la cible de {page.quantity(_parts['cible'][0], '%')}."
            feuille.add(page.figure(
                figures.intervals(_parts.select(nom="periode", valeur="part_reponse_locale", bas="wilson_bas", haut="wilson_haut"), "% de réponses locales", _alt, _demo, _parts["cible"][0]), _alt))  # fmt: skip
        _departements = _choisis.filter(pl.col("territoire_niveau") == "departement")
        _valeurs = dict(_departements.filter(pl.col("part_reponse_locale").is_not_null()).select("territoire_code", "part_reponse_locale").iter_rows())
        _raisons = {r["territoire_code"]: "secret" if r["statut_valeur"] == "secret" else "aucune demande close" for r in _departements.filter(pl.col("part_reponse_locale").is_null()).to_dicts()}
        _raisons = {c: _raisons.get(c, "aucun relevé") for c in figures.drawing()["departements"]}
        _alt = f"Part des demandes closes par une réponse locale, par département, {_dite}."
        _montrer = {
            "territoire_nom": "Département", "demandes": "Demandes", "demandes_closes": "Closes", "part_reponse_locale": "Réponse locale (%)", "wilson_bas": "De (95 %)", "wilson_haut": "À (95 %)",
            "delai_median_interlocuteur_jours": "Délai médian (jours)", "demandes_en_manquement": "En manquement", "connue_le": "Connu le", "motif": "Remarque",
        }  # fmt: skip
        feuille.add(
            page.heading("Par département"),
            page.figure(figures.departements(_valeurs, _raisons, "%", _alt, _demo, dict(_departements.select("territoire_code", "territoire_nom").iter_rows())), f"{_alt} {figures.drawing()['citation']}", "carte"),
            page.table(_departements.with_columns(_lien=pl.concat_str(pl.lit("territoires/departement-"), "territoire_code", pl.lit(".html"))), f"Par département, {_dite} ; cible 90 %", _montrer,
                       {"part_reponse_locale": 0, "wilson_bas": 0, "wilson_haut": 0, "delai_median_interlocuteur_jours": 0}, links={"territoire_nom": "_lien"}),
            page.paragraph("Le délai médian jusqu'à la désignation de l'interlocuteur compte les demandes encore sans interlocuteur (Kaplan-Meier) ; vide, il n'est pas atteint ou pas calculable.", "note"),
        )  # fmt: skip
    if manquements.height:
        feuille.add(page.heading("Manquements au protocole"), page.table(
            manquements, "Règles du protocole qui ne sont pas suivies", {"libelle": "Règle", "gravite": "Gravité", "manquements": "Manquements", "demandes": "Demandes", "departements": "Départements"}))  # fmt: skip
    if contrats.height:
        feuille.add(page.heading("Pactes et contrats"), page.table(
            contrats, "Conventions, au dernier compte rendu",
            {"convention_id": "Convention", "intervention_nom": "Intervention", "departement_code": "Département", "statut": "État", "date_signature": "Signée le",
             "actions_inscrites": "Actions", "actions_achevees": "Achevées", "part_actions_achevees": "Achevées (%)"}, {"part_actions_achevees": 0}))  # fmt: skip
    else:
        feuille.add(page.heading("Pactes et contrats"), page.paragraph("Cette publication ne contient aucun relevé interne de convention : ni actions, ni montants, ni critères."))
    feuille.add(page.heading("Consolidation annuelle"))
    if consolidation.height:
        for (_nom, _annee), _part in consolidation.group_by("territoire_nom", "annee", maintain_order=True):
            feuille.add(page.fold(f"{_nom or 'Département inconnu'}, {_annee}", page.table(
                _part, f"Rapport de {_annee}", {"libelle": "Rubrique", "section": "Section", "valeur": "Valeur", "unite": "Unité", "commentaire": "Remarque"})))  # fmt: skip
    else:
        feuille.add(page.paragraph("Aucun délégué territorial n'a de rapport dans cette publication : il se tire des mêmes relevés de demandes."))
    feuille.sources = release.citations(sorted(set(bilans["source_id"]))) if bilans.height else []
    return (feuille,)


@app.cell
def _(feuille, mo):
    mo.Html(feuille.live())
    return


if __name__ == "__main__":
    app.run()

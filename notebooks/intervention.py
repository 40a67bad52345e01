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
        "select m.*, t.territoire_nom from mart_intervention_du_territoire as m inner join dim_territoire as t using (territoire_niveau, territoire_code) "
        "where m.intervention_id = ? and territoire_niveau = 'departement' and t.est_pivot order by territoire_code",
        intervention_id,
    )
    indicateurs = release.query(
        "select p.portee, p.est_englobant, p.note as note_lien, i.* from bridge_intervention_indicateur as p "
        "inner join dim_indicateur as i using (indicateur_id) where p.intervention_id = ? order by p.portee, i.libelle",
        intervention_id,
    )
    nationales = release.query(
        "select o.*, i.libelle, coalesce(o.unite, i.unite, '') as unite_dite, i.formule, s.titre from fct_observation as o "
        "inner join bridge_intervention_indicateur as p using (indicateur_id) inner join dim_indicateur as i using (indicateur_id) "
        "left join dim_source as s on s.source_id = o.source_id "
        "where p.intervention_id = ? and o.territoire_niveau = 'national' and o.est_derniere_version order by o.periode_fin, o.periode_debut",
        intervention_id,
    )
    # An intervention of few places is told by their values; the country's say nothing of it.
    locales = release.query(
        "with lieux as (select distinct territoire_niveau, territoire_code from ("
        "select territoire_niveau, territoire_code from fct_intervention_territoire where intervention_id = ? and date_fin is null "
        "union all select territoire_niveau, territoire_code from mart_intervention_du_territoire where intervention_id = ? and territoire_niveau = 'departement')) "
        "select p.portee, i.libelle, t.territoire_nom, o.*, coalesce(o.unite, i.unite, '') as unite_dite from fct_observation as o inner join lieux using (territoire_niveau, territoire_code) "
        "inner join bridge_intervention_indicateur as p on p.indicateur_id = o.indicateur_id and p.intervention_id = ? inner join dim_indicateur as i on i.indicateur_id = o.indicateur_id "
        "inner join dim_territoire as t on t.est_pivot and t.territoire_niveau = o.territoire_niveau and t.territoire_code = o.territoire_code "
        "where (select count(*) from lieux) <= 4 and o.est_derniere_version and o.valeur is not null order by i.libelle, t.territoire_nom, o.territoire_niveau, o.periode_fin, o.periode_debut",
        intervention_id, intervention_id, intervention_id,
    )  # fmt: skip
    avancements = release.query(
        "select a.*, i.libelle, i.unite from mart_avancement as a inner join bridge_intervention_indicateur as p using (indicateur_id) "
        "inner join dim_indicateur as i using (indicateur_id) where p.intervention_id = ? and a.territoire_niveau = 'national' order by i.libelle",
        intervention_id,
    )
    situations = release.query(
        "select s.*, i.libelle, i.unite from mart_situation_intervention as s inner join dim_indicateur as i using (indicateur_id) "
        "inner join bridge_intervention_indicateur as p on p.intervention_id = s.intervention_id and p.indicateur_id = s.indicateur_id "
        "where s.intervention_id = ? and p.portee = 'vie_quotidienne' order by i.libelle, s.territoire_niveau",
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
    choix_raisonnables = release.query(
        "select c.* from mart_impact_choix as c inner join mart_impact as m using (estimation_id) "
        "where m.intervention_id = ? and c.effet is not null order by c.estimation_id, c.choix",
        intervention_id,
    )
    equilibre = release.query(
        "select e.* from mart_equilibre as e inner join mart_impact as m using (estimation_id) where m.intervention_id = ? "
        "order by e.estimation_id, e.nature, e.variable",
        intervention_id,
    )
    chevauchements = release.query(
        "select c.*, i.intervention_nom from mart_chevauchement as c inner join dim_intervention as i on i.intervention_id = c.autre_intervention_id "
        "where c.intervention_id = ? order by c.communes desc, c.autre_intervention_id limit 8",
        intervention_id,
    )
    return (
        avancements, chevauchements, choix_raisonnables, couverture, equilibre, estimations, evenements, indicateurs, intervention,
        locales, nationales, presence, reponses, situations,
    )  # fmt: skip


@app.cell
def _(
    avancements, chevauchements, choix_raisonnables, couverture, equilibre, estimations, evenements, figures, indicateurs, intervention,
    locales, nationales, page, pl, presence, release, reponses, situations,
):  # fmt: skip
    feuille = release.page(intervention["intervention_nom"], "..", f"interventions/{intervention['intervention_id']}.html")
    _demo = feuille.demonstration
    _mots = [x for x in (intervention["thematique"], intervention["politique_publique"], intervention["modalite"]) if x]
    feuille.add(
        page.heading("La promesse"),
        page.paragraph(f"Feuille de route 2020, section {intervention['section']}" + (" : " + " › ".join(_mots) if _mots else "") + ".", "note"),
        page.quote(intervention["promesse"]) if intervention["promesse"] else page.paragraph("La feuille de route nomme cette intervention sans lui fixer de promesse propre ; celle de toutes les interventions s'applique :"),
        "" if intervention["promesse"] else page.quote(
            "« Chacune des interventions territorialisées de l'ANCT doit avoir un impact mesurable sur les politiques publiques conduites "
            "territorialement ainsi que sur la vie quotidienne des habitants. »"),
        page.heading("Où en est cette promesse"),
        "<p>Promesse d'un impact mesurable : <strong>" + page.state(reponses["etat_promesse"]) + "</strong>. " + page.escape(
            f"Indicateurs de politique publique qui ont une valeur : {couverture['observes_politique_publique']} sur {couverture['indicateurs_politique_publique']} ; "
            f"de vie quotidienne : {couverture['observes_vie_quotidienne']} sur {couverture['indicateurs_vie_quotidienne']}"
            + (f" ; la donnée la plus récente porte jusqu'au {page.day(couverture['derniere_periode'])}." if couverture["derniere_periode"] else ".")) + "</p>",
        page.answers([
            ("Avancement vers la cible", reponses["etat_avancement"], reponses["phrase_avancement"]),
            ("Situation des territoires", reponses["etat_situation"], reponses["phrase_situation"]),
            ("Impact de l'intervention", reponses["etat_impact"], reponses["phrase_impact"]),
        ]),
        page.paragraph("Ces trois réponses ne se remplacent pas l'une l'autre : une cible atteinte ou une bonne situation n'est pas un impact.", "note"),
    )  # fmt: skip
    if reponses["est_en_retard"]:
        feuille.add(page.paragraph(f"{page.count(reponses['sources_en_retard'], 'source')} en retard : les chiffres sont ceux de la dernière bonne version.", "attention"))

    feuille.add(page.heading("Où elle agit"))
    if presence.height:
        _codes = figures.drawing()["departements"]
        _valeurs = {c: v for c, v in presence.select("territoire_code", "part_population").iter_rows() if c in _codes and v is not None}
        _absents = {c: "absent des listes en main" for c in _codes if c not in _valeurs}
        _alt = f"Part de la population vivant dans une commune touchée, par département : {page.count(presence.height, 'département')}, {page.count(presence['communes'].sum(), 'commune')}."
        feuille.add(
            page.figure(
                figures.departements(_valeurs, _absents, "%", _alt, _demo, dict(presence.select("territoire_code", "territoire_nom").iter_rows()), "absent des listes en main"),
                f"{_alt} {figures.drawing()['citation']}", "carte"),
            page.paragraph(f"Au dernier état des listes : {page.count(couverture['territoires_actifs'], 'territoire')}, dont {page.number(couverture['territoires_actifs_dates'])} à la date de début connue."),
            page.fold("Par département : communes touchées, début, et ce que l'on sait de la promesse", page.table(
                presence.with_columns(
                    _lien=pl.concat_str(pl.lit("../territoires/departement-"), "territoire_code", pl.lit(".html#"), pl.lit(page.slug(intervention["intervention_id"]))),
                    promesse=pl.col("etat_promesse").map_elements(page.state, return_dtype=pl.String),
                ),
                "Départements où elle agit",
                {"territoire_nom": "Département", "communes": "Communes", "part_population": "Population (%)", "premiere_date": "Depuis le", "promesse": "Promesse", "connue_le": "Connu le"},
                {"part_population": 1}, links={"territoire_nom": "_lien"}, html=["promesse"],
            )),
        )  # fmt: skip
    else:
        _motif = couverture["motif_sans_territoire"]
        feuille.add(page.paragraph(page.sentence(_motif) if _motif else "Les territoires connus ne se rattachent à aucune commune."))

    feuille.add(page.heading("Ce qui est fait, et ce que vivent les habitants"))
    _ici = locales.group_by("indicateur_id", "territoire_niveau", "territoire_code", maintain_order=True).last()
    # A pact over one whole département has that département's values, twice.
    if presence.height == 1 and presence["part_communes"][0] == 100:
        _ici = _ici.filter(pl.col("territoire_niveau") != "perimetre")
    # Its own perimeter tells more than the départements that it crosses.
    _ici = _ici.filter((pl.col("territoire_niveau") == "perimetre").any().over("indicateur_id").not_() | (pl.col("territoire_niveau") == "perimetre"))
    for _portee, _titre in (("politique_publique", "Politique publique"), ("vie_quotidienne", "Vie quotidienne")):
        _part = _ici.filter(pl.col("portee") == _portee)
        if _part.height:
            feuille.add(page.table(
                _part, f"{_titre} : dernière valeur dans ses territoires",
                {"libelle": "Indicateur", "territoire_nom": "Territoire", "valeur": "Valeur", "unite_dite": "Unité", "periode_fin": "Au", "connue_le": "Connu le", "statut_valeur": "État"},
            ))  # fmt: skip
    _pays = []
    _dernieres = (
        nationales.filter(pl.col("valeur").is_not_null() | ~pl.col("indicateur_id").is_in(nationales.filter(pl.col("valeur").is_not_null())["indicateur_id"].unique().to_list()))
        .group_by("indicateur_id", maintain_order=True).last()
    )  # fmt: skip
    for _portee, _titre in (("politique_publique", "Politique publique : dernière valeur nationale"), ("vie_quotidienne", "Vie quotidienne : dernière valeur nationale")):
        _part = indicateurs.filter(pl.col("portee") == _portee).join(
            _dernieres.select("indicateur_id", "valeur", "periode_fin", "statut_valeur", "connue_le", "unite_dite", "motif"), on="indicateur_id", how="left", maintain_order="left"
        )
        _pays.append(
            page.table(
                _part.with_columns(
                    unite=pl.coalesce("unite_dite", "unite"),
                    dit=pl.when(pl.col("valeur").is_not_null()).then(pl.col("statut_valeur")).otherwise(
                        pl.coalesce("motif", "motif_sans_valeur", "statut_valeur", pl.lit("pas de valeur nationale ; voir les territoires"))),
                    englobe=pl.when("est_englobant").then(pl.lit("territoire englobant")).otherwise(pl.lit("au niveau d'action")),
                ),
                _titre,
                {"libelle": "Indicateur", "valeur": "Valeur", "unite": "Unité", "periode_fin": "Au", "connue_le": "Connu le", "dit": "État", "englobe": "Mesuré sur"},
            )
        )  # fmt: skip
    feuille.add(*([page.fold("Les mêmes indicateurs dans tout le pays, et ceux qui n'ont pas de valeur", *_pays)] if _ici.height else _pays))
    if nationales.height:
        feuille.add(page.fold("D'où viennent les chiffres nationaux : formule, livraison, empreinte des octets", page.table(
            _dernieres.sort("libelle"), "Chaîne de chaque dernière valeur nationale",
            {"libelle": "Indicateur", "formule": "Formule", "titre": "Source", "millesime": "Livraison", "connue_le": "Connu le", "snapshot_sha256": "Empreinte SHA-256"},
        ), page.paragraph(f"La chaîne complète, jusqu'aux lignes du fichier : dk explain {_dernieres['indicateur_id'][0]} national:FR --release {release.id}", "note")))  # fmt: skip

    feuille.add(page.heading("Avancement"))
    _taux = avancements.filter(pl.col("taux_avancement").is_not_null())
    if avancements.height:
        feuille.add(page.table(
            avancements, "Vers la cible nationale",
            {"libelle": "Indicateur", "valeur_initiale": "Départ", "date_initiale": "le", "valeur_actuelle": "Valeur", "date_actuelle": "au", "valeur_cible": "Cible", "date_cible": "pour le", "taux_avancement": "Taux (%)", "motif": "Sans taux"},
            {"taux_avancement": 0},
        ), page.paragraph("Le taux n'est pas borné : un recul est négatif, un dépassement passe 100. Ces cibles sont celles des baromètres de l'État ; la feuille de route n'en fixe que pour le sur-mesure.", "note"))  # fmt: skip
        _dessins = []
        for _ligne in _taux.head(4).to_dicts():
            _serie = nationales.filter((pl.col("indicateur_id") == _ligne["indicateur_id"]) & pl.col("valeur").is_not_null())
            _points = pl.concat([
                _serie.select(date="periode_fin", valeur="valeur", serie=pl.lit("valeur")),
                pl.DataFrame({"date": [_ligne["date_initiale"], _ligne["date_cible"]], "valeur": [_ligne["valeur_initiale"], _ligne["valeur_cible"]], "serie": ["chemin droit vers la cible"] * 2}),
            ]).drop_nulls()  # fmt: skip
            _unite = _ligne["unite"] or ""
            _alt = (f"{_ligne['libelle']} : {page.quantity(_ligne['valeur_actuelle'], _unite)} au {page.day(_ligne['date_actuelle'])}, "
                    f"cible {page.quantity(_ligne['valeur_cible'], _unite)} pour le {page.day(_ligne['date_cible'])}.")  # fmt: skip
            _dessins.append(page.figure(figures.trajectory(_points, _unite, _alt, _demo), _alt))
        feuille.add(page.grid(*_dessins))
    else:
        feuille.add(page.paragraph("Aucune cible nationale n'est publiée ni déclarée pour ses indicateurs. La feuille de route n'en fixe que pour le sur-mesure."))

    feuille.add(page.heading("Situation"))
    _orientees = situations.filter(pl.col("part_favorable").is_not_null())
    if _orientees.height:
        _mailles = {"commune": "communes", "epci": "intercommunalités", "departement": "départements"}
        feuille.add(page.table(
            _orientees.with_columns(maille=pl.col("territoire_niveau").replace(_mailles)), "Territoires de l'intervention parmi leurs comparables",
            {"libelle": "Indicateur", "maille": "Maille", "territoires": "Nombre", "part_favorable": "Mieux que la médiane (%)", "part_evolution_favorable": "Évoluent mieux (%)", "ecart_median": "Écart médian", "unite": "Unité", "periode_fin": "Au"},
            {"part_favorable": 0, "part_evolution_favorable": 0},
        ), page.paragraph("Faire mieux ou moins bien que ses comparables ne dit rien de l'impact : les interventions choisissent leurs territoires.", "note"))  # fmt: skip
    else:
        feuille.add(page.paragraph(page.sentence(reponses["phrase_situation"])))

    feuille.add(page.heading("Impact"))
    if not estimations.height:
        feuille.add(page.paragraph(page.sentence(reponses["phrase_impact"])))
    for _plan in estimations.to_dicts():
        _unite = "points de logarithme" if _plan["transformation"] == "log" else _plan["unite_indicateur"] or ""
        feuille.add(
            f"<h3>{page.escape(_plan['libelle'])} ({page.escape(_plan['rang'])})</h3>",
            f"<p><strong>{page.state(_plan['statut'])}</strong>. {page.escape(page.sentence(_plan['phrase'].removeprefix(_plan['statut']).lstrip(' :')))}</p>",
            page.paragraph(
                f"Plan arrêté le {page.day(_plan['fixe_le'])}, avant tout résultat : {page.count(_plan['unites_traitees'] or 0, 'territoire touché')} "
                f"et {page.count(_plan['unites_temoins'] or 0, 'témoin')}, sur {page.count(_plan['periodes'] or 0, 'période')}"
                + (f", par {_plan['estimateur']}" if _plan["estimateur"] else "") + ".", "note"),
        )  # fmt: skip
        _dessins = []
        _autour = evenements.filter((pl.col("estimation_id") == _plan["estimation_id"]) & pl.col("effet").is_not_null())
        if _autour.height > 1:
            _alt = f"{_plan['libelle']} : écart aux témoins, année par année autour du début, avec sa bande à 95 % ({_unite})."
            if _plan["statut"] == "non crédible":
                _alt += " Seules les années d'avant le début sont montrées : ce qui suit n'est pas crédible."
            _dessins.append(page.figure(
                figures.event_study(_autour.select(
                    "effet", annee_relative="delai", borne_basse=pl.when(~pl.col("est_reference")).then("bas"), borne_haute=pl.when(~pl.col("est_reference")).then("haut")), _unite, _alt, _demo),
                _alt + " Point creux : année de référence, nulle par construction."))  # fmt: skip
        _essais = choix_raisonnables.filter(pl.col("estimation_id") == _plan["estimation_id"])
        if _essais.height and _plan["effet"] is not None:
            _alt = f"{_plan['libelle']} : le même effet sous d'autres choix raisonnables déclarés d'avance, avec son intervalle à 95 % ({_unite})."
            _dessins.append(page.figure(figures.intervals(_essais.select(nom="choix", valeur="effet", bas="bas", haut="haut"), _unite, _alt, _demo), _alt))
        feuille.add(page.grid(*_dessins) if _dessins else "")
        _avant = equilibre.filter(pl.col("estimation_id") == _plan["estimation_id"])
        if _avant.height:
            feuille.add(page.fold("Ressemblance des territoires touchés et des témoins avant le début", page.table(
                _avant.with_columns(pl.col("variable").map_elements(page.plain, return_dtype=pl.String)), "Différences en écarts-types ; au-delà de 0,1, les deux groupes ne se ressemblent pas",
                {"variable": "Caractéristique", "moyenne_traitees": "Touchés", "moyenne_temoins": "Témoins", "smd_brut": "Différence", "smd_ajuste": "Après pondération"},
            )))  # fmt: skip
    if chevauchements.height:
        feuille.add("<h3>Autres interventions sur les mêmes communes</h3>", page.table(
            chevauchements.with_columns(_lien=pl.concat_str("autre_intervention_id", pl.lit(".html"))), "Tout impact mesuré ici est celui d'un mélange",
            {"intervention_nom": "Intervention", "communes": "Communes communes", "part_communes": "Part (%)", "communes_deux_ans": "dont débuts à moins de deux ans"},
            {"part_communes": 0}, links={"intervention_nom": "_lien"},
        ))  # fmt: skip

    feuille.add(page.heading("Précautions"))
    _notes = [intervention["note"], *indicateurs["note"].to_list(), *indicateurs["note_lien"].to_list()]
    _notes = list(dict.fromkeys(page.sentence(n) for n in _notes if n))
    feuille.add(page.items(_notes) if _notes else page.paragraph("Aucune remarque particulière."))
    if couverture["manquants"]:
        feuille.add(page.fold("Ce qui n'est pas connu, et pourquoi", page.table(
            indicateurs.filter(pl.col("motif_sans_valeur").is_not_null()), "Indicateurs sans valeur", {"libelle": "Indicateur", "motif_sans_valeur": "Pourquoi"},
        ) if indicateurs["motif_sans_valeur"].is_not_null().any() else page.items(couverture["manquants"].split(" ; "))))  # fmt: skip
    feuille.sources = release.citations(sorted({*locales["source_id"], *nationales["source_id"], *avancements["source_id"]}))
    return (feuille,)


@app.cell
def _(feuille, mo):
    mo.Html(feuille.live())
    return


if __name__ == "__main__":
    app.run()

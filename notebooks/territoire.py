"""Page d'un territoire : qui y agit, et où il se situe parmi ses comparables."""

import marimo

app = marimo.App(app_title="Territoire", width="medium")


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
    _places = release.query(
        "select territoire_niveau || ':' || territoire_code as cle, territoire_nom || ' (' || case territoire_niveau when 'region' then 'région' when 'departement' then 'département' "
        "when 'epci' then 'intercommunalité' else 'commune' end || ' ' || territoire_code || ')' as nom "
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
    territoire = release.one("select * from dim_territoire where est_pivot and territoire_niveau = ? and territoire_code = ?", niveau, code)
    voisins = release.query(
        "select territoire_niveau, territoire_code, territoire_nom from dim_territoire where est_pivot and ("
        "(territoire_niveau = 'departement' and ? = 'region' and region_code = ?) or (territoire_niveau = 'region' and ? <> 'region' and territoire_code = ?) "
        "or (territoire_niveau = 'departement' and ? in ('commune', 'epci') and territoire_code = ?)) order by territoire_niveau, territoire_code",
        niveau, code, niveau, territoire["region_code"] if len(territoire["region_code"] or "") == 2 else None, niveau, territoire["departement_code"],
    )  # fmt: skip
    interventions = release.query(
        "select m.*, t.etat_impact, t.phrase_impact from mart_intervention_du_territoire as m inner join mart_tableau_de_bord as t using (intervention_id) "
        "where territoire_niveau = ? and territoire_code = ? order by m.intervention_nom",
        niveau, code,
    )  # fmt: skip
    observations = release.query(
        "select o.*, coalesce(o.unite, i.unite, '') as unite_dite, i.libelle, i.domaine, i.sens_favorable from fct_observation as o inner join dim_indicateur as i using (indicateur_id) "
        "where o.territoire_niveau = ? and o.territoire_code = ? and o.est_derniere_version order by i.libelle, o.periode_fin, o.periode_debut",
        niveau, code,
    )  # fmt: skip
    liens = release.query(
        "select p.intervention_id, p.indicateur_id, p.portee, i.libelle, i.motif_sans_valeur from bridge_intervention_indicateur as p "
        "inner join dim_indicateur as i using (indicateur_id) inner join mart_intervention_du_territoire as m using (intervention_id) "
        "where m.territoire_niveau = ? and m.territoire_code = ? order by p.portee, i.libelle",
        niveau, code,
    )  # fmt: skip
    situation = release.query(
        "select s.*, i.libelle, coalesce(i.unite, '') as unite, i.sens_favorable, coalesce(i.domaine, '') as domaine from mart_situation as s "
        "inner join dim_indicateur as i using (indicateur_id) where territoire_niveau = ? and territoire_code = ? order by i.libelle",
        niveau, code,
    )  # fmt: skip
    comparables = release.query(
        "select t.territoire_nom, t.territoire_code from bridge_territoire_comparable as b inner join dim_territoire as t "
        "on t.territoire_niveau = b.territoire_niveau and t.territoire_code = b.comparable_code and t.est_pivot "
        "where b.territoire_niveau = ? and b.territoire_code = ? order by b.rang",
        niveau, code,
    )  # fmt: skip
    return comparables, interventions, liens, observations, situation, territoire, voisins


@app.cell
def _(
    code, comparables, figures, interventions, liens, niveau, observations, page, pl, release, situation, territoire, voisins
):  # fmt: skip
    _noms = {"commune": "commune", "epci": "intercommunalité", "departement": "département", "region": "région"}
    feuille = release.page(f"{territoire['territoire_nom']} ({_noms[niveau]} {code})", "..", f"territoires/{niveau}-{code}.html")
    _demo = feuille.demonstration
    feuille.add(
        page.paragraph(
            (f"{page.count(territoire['population'], 'habitant')}. " if territoire["population"] else "")
            + "Qui agit ici, si la promesse de la feuille de route est tenue, à quel point on en est sûr, et où ce territoire se situe parmi des "
            "territoires comparables. Une comparaison n'est pas un impact : elle ne dit pas ce qui l'explique."),
        page.links([(f"{v['territoire_niveau']}-{v['territoire_code']}.html", f"{v['territoire_nom']} ({_noms[v['territoire_niveau']]})") for v in voisins.to_dicts()]) if voisins.height else "",
        page.heading("Qui agit ici"),
    )  # fmt: skip
    _connues = observations.filter(pl.col("valeur").is_not_null())
    _vides = observations.filter(pl.col("valeur").is_null() & ~pl.col("indicateur_id").is_in(_connues["indicateur_id"].unique().to_list()))
    _dernieres = pl.concat([_connues, _vides]).group_by("indicateur_id", maintain_order=True).last()
    _medianes = situation.select("indicateur_id", "mediane_comparables", periode_comparee="periode_fin")
    if interventions.height:
        feuille.add(
            page.table(
                interventions.with_columns(
                    _lien=pl.concat_str(pl.lit("#"), pl.col("intervention_id").map_elements(page.slug, return_dtype=pl.String)),
                    promesse=pl.col("etat_promesse").map_elements(page.state, return_dtype=pl.String),
                    impact=pl.col("etat_impact").map_elements(page.state, return_dtype=pl.String),
                ),
                "Interventions présentes, d'après les listes en main",
                {"intervention_nom": "Intervention", "premiere_date": "Depuis le", "communes": "Communes", "part_population": "Part de la population (%)",
                 "promesse": "Promesse ici", "impact": "Impact (toute l'intervention)", "connue_le": "Connu le"},
                {"part_population": 0}, links={"intervention_nom": "_lien"}, html=["promesse", "impact"],
            ),
            page.heading("La promesse, intervention par intervention"),
            page.paragraph("Promesse : « avoir un impact mesurable sur les politiques publiques conduites territorialement ainsi que sur la vie quotidienne des habitants ».", "note"),
        )  # fmt: skip
    else:
        feuille.add(page.paragraph("Aucune liste en main ne cite ce territoire, ni une de ses communes."))
    _phrases = {
        "non mesurée": "On ne sait pas : l'un des deux plans n'est pas mesuré ici, on ne peut donc pas dire que la promesse est tenue.",
        "mesurée, effet non établi": "Pas établie : les deux plans sont mesurés ici, mais aucun impact de l'intervention n'est établi.",
        "effet favorable établi": "Oui pour l'ensemble de l'intervention : les deux plans sont mesurés ici et un impact favorable est établi.",
        "effet défavorable établi": "Non pour l'ensemble de l'intervention : un impact défavorable est établi.",
    }
    # All of them at once: a page for each of a hundred territoires leaves no time to join intervention by intervention.
    _tous = liens.join(
        _dernieres.select("indicateur_id", "valeur", "unite_dite", "periode_fin", "connue_le", "statut_valeur", "motif"), on="indicateur_id", how="left", maintain_order="left"
    ).join(_medianes, on="indicateur_id", how="left", maintain_order="left").with_columns(
        plan=pl.col("portee").replace({"politique_publique": "politique publique", "vie_quotidienne": "vie quotidienne"}),
        # The median of the others is told beside a value of the same period only.
        mediane_comparables=pl.when(pl.col("periode_comparee") == pl.col("periode_fin")).then("mediane_comparables"),
        dit=pl.when(pl.col("valeur").is_not_null()).then(pl.col("statut_valeur")).otherwise(pl.coalesce("motif", "motif_sans_valeur", pl.lit("pas de valeur à cette maille"))),
    )  # fmt: skip
    _par_intervention = _tous.partition_by("intervention_id", as_dict=True)
    for _agit in interventions.to_dicts():
        _siens = _par_intervention.get((_agit["intervention_id"],), _tous.clear())
        _sans = _siens["valeur"].null_count()
        feuille.add(
            f"<h3 id=\"{page.slug(_agit['intervention_id'])}\">{page.link('../interventions/' + _agit['intervention_id'] + '.html', _agit['intervention_nom'])}</h3>",
            f"<p><strong>{page.escape(_phrases[_agit['etat_promesse']])}</strong> "
            + page.escape(
                f"Indicateurs qui ont une valeur ici : {_agit['mesures_politique_publique']} de politique publique, {_agit['mesures_vie_quotidienne']} de vie quotidienne"
                + (f" ; la plus récente porte jusqu'au {page.day(_agit['derniere_periode'])} et la dernière a été connue le {page.day(_agit['connue_le'])}." if _agit["connue_le"] else ".")) + "</p>",
            f"<p>À quel point en est-on sûr : {page.state(_agit['etat_impact'])}. "
            + page.escape(page.sentence(_agit["phrase_impact"].removeprefix(_agit["etat_impact"]).lstrip(" :")) + " L'impact est cherché sur toute l'intervention, jamais dans un seul territoire.") + "</p>",
            page.fold(f"Ses indicateurs ici ({_siens.height - _sans} avec une valeur, {_sans} sans)", page.table(
                _siens, "Dernière valeur dans ce territoire",
                {"libelle": "Indicateur", "plan": "Plan", "valeur": "Ici", "mediane_comparables": "Médiane des comparables", "unite_dite": "Unité", "periode_fin": "Au", "connue_le": "Connu le", "dit": "État"},
            )),
        )  # fmt: skip
    feuille.add(page.heading("Situation parmi des territoires comparables"))
    _compares = situation.filter(pl.col("mediane_comparables").is_not_null())
    if _compares.height:
        _noms_comparables = ", ".join(f"{n} ({c})" for n, c in comparables.select("territoire_nom", "territoire_code").iter_rows())
        feuille.add(page.paragraph(f"Comparables, fixés d'après leur taille, leur revenu et leur croissance d'avant les interventions : {_noms_comparables}."),
                    page.paragraph("Dessin : la boîte va du premier au troisième quartile des comparables, le trait est leur médiane, le point est ce territoire. Rang 1 : la plus grande valeur.", "note"))  # fmt: skip
        _compares = _compares.with_columns(
            periode=pl.struct("periode_debut", "periode_fin").map_elements(lambda p: page.period(p["periode_debut"], p["periode_fin"]), return_dtype=pl.String),
            place=pl.col("rang").cast(pl.String) + "\u00a0sur\u00a0" + (pl.col("comparables") + 1).cast(pl.String),
            dessin=pl.struct("quartile_bas_comparables", "mediane_comparables", "quartile_haut_comparables", "valeur").map_elements(
                lambda r: figures.position(*r.values()), return_dtype=pl.String),
        )  # fmt: skip
        for (_domaine,), _part in _compares.sort("domaine", "libelle").group_by("domaine", maintain_order=True):
            feuille.add(page.table(
                _part, page.sentence(_domaine.replace("_", " ")).rstrip(".") if _domaine else "Conduite de l'action publique",
                {"libelle": "Indicateur", "periode": "Période", "valeur": "Ici", "mediane_comparables": "Médiane des comparables", "dessin": "Place", "place": "Rang",
                 "evolution": "Évolution ici", "evolution_mediane_comparables": "Évolution médiane", "unite": "Unité"},
                html=["dessin"],
            ))  # fmt: skip
    elif niveau == "region":
        feuille.add(page.paragraph("Les régions ne sont pas comparées entre elles : elles sont trop peu nombreuses et trop différentes. Leurs départements le sont, chacun sur sa page."))
    else:
        feuille.add(page.paragraph("Aucun indicateur n'a de valeur à la fois ici et chez cinq territoires comparables."))
    feuille.add(page.heading("Évolutions"))
    _riches = (
        _connues.filter(pl.col("domaine").is_not_null())
        .group_by("indicateur_id", maintain_order=True)
        .agg(pl.col("periode_fin").n_unique().alias("n"), pl.col("libelle").first(), pl.col("unite_dite").last())
        .filter(pl.col("n") >= 4).sort("n", "indicateur_id", descending=[True, False]).head(6)
    )  # fmt: skip
    _dessins = []
    for _row in _riches.to_dicts():
        _serie = _connues.filter(pl.col("indicateur_id") == _row["indicateur_id"])
        _debuts = _serie.group_by("serie").agg(pl.col("periode_fin").min().dt.year().cast(pl.String).alias("debut"))
        _points = _serie.join(_debuts, on="serie", maintain_order="left").select(
            date="periode_fin", valeur="valeur",
            serie=pl.lit(territoire["territoire_nom"]) + pl.when(pl.lit(_debuts.height > 1)).then(pl.lit(", série de ") + pl.col("debut")).otherwise(pl.lit("")),
        )  # fmt: skip
        _alt = (
            f"{_row['libelle']}, {territoire['territoire_nom']} : {page.quantity(_serie['valeur'][0], _row['unite_dite'])} au {page.day(_serie['periode_fin'][0])}, "
            f"{page.quantity(_serie['valeur'][-1], _row['unite_dite'])} au {page.day(_serie['periode_fin'][-1])}."
        )
        _dessins.append(page.figure(figures.trajectory(_points, _row["unite_dite"], _alt, _demo), _alt))
    feuille.add(page.grid(*_dessins) if _dessins else page.paragraph("Aucun indicateur de vie quotidienne n'a ici quatre valeurs ou plus."))
    feuille.sources = release.citations(sorted({*situation["source_id"], *_dernieres["source_id"]}))
    return (feuille,)


@app.cell
def _(feuille, mo):
    mo.Html(feuille.live())
    return


if __name__ == "__main__":
    app.run()

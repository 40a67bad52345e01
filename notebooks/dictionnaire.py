"""Dictionnaire des données : chaque table et chaque colonne publiée, et les colonnes des fichiers de chaque producteur.

Le sommaire tient tous les noms et toutes les définitions sur une page : la recherche du navigateur (Ctrl+F) y trouve un mot
sans serveur ni script.
"""

import marimo

app = marimo.App(app_title="Dictionnaire", width="medium")


@app.cell
def _():
    import marimo as mo
    import polars as pl

    from ingestion.declarations import PROJECT
    from notebooks.kit import figures, page
    from notebooks.kit.release import open_release

    exemples = PROJECT / "notebooks" / "exemples"
    return exemples, figures, mo, open_release, page, pl


@app.cell
def _(open_release):
    release = open_release()
    return (release,)


@app.cell
def _(mo, release):
    _tout = release.dictionary()
    choix = mo.ui.dropdown({"sommaire": "", **{t: f"table:{t}" for t in _tout["tables"]}, **{g: f"sources:{g}" for g in sorted({s["groupe"] for s in _tout["sources"].values()})}}, value="sommaire", label="Sujet")
    choix
    return (choix,)


@app.cell
def _(choix):
    sujet = choix.value
    return (sujet,)


@app.cell
def _(release, sujet):
    dictionnaire = release.dictionary()
    # What the release holds of each column: rows that have it, and a few values, in the order of the table's key.
    faits = {}
    if sujet.startswith("table:"):
        _table = sujet.removeprefix("table:")
        _noms = [c["nom"] for c in dictionnaire["tables"][_table]["colonnes"]]
        _comptes = release.query(f"select count(*), {', '.join(f'count({n})' for n in _noms)} from {_table}").row(0)
        for _rang, _nom in enumerate(_noms):
            _exemples = release.query(f"select distinct cast({_nom} as varchar) as v from (select {_nom} from {_table} where {_nom} is not null limit 5000) order by length(v), v limit 3")["v"].to_list()
            faits[_nom] = {"lignes": _comptes[0], "remplies": _comptes[_rang + 1], "exemples": " ; ".join(e if len(e) <= 32 or (" " in e and len(e) <= 60) else e[:24] + "…" for e in _exemples)}
        _statut = "statut_valeur" if "statut_valeur" in _noms else "cast(null as varchar)"
        motifs = release.query(
            f"select {_statut} as statut, split_part(motif, ' : ', 1) as motif, count(*) as lignes from {_table} where motif is not null group by all order by lignes desc, statut, motif limit 12"
        ) if "motif" in _noms else None  # fmt: skip
    else:
        motifs = None
    return dictionnaire, faits, motifs


@app.cell
def _(dictionnaire, exemples, faits, figures, motifs, page, pl, release, sujet):
    _tables, _sources = dictionnaire["tables"], dictionnaire["sources"]
    _types = {"varchar": "texte", "integer": "entier", "bigint": "entier", "double": "nombre", "date": "date", "boolean": "oui ou non"}

    def _lier(noms):
        cibles = [
            (f"{n}.html", n) if n in _tables else (f"sources-{_sources[n]['groupe']}.html#{page.slug(n)}", n) if n in _sources else (None, n) for n in noms
        ]  # fmt: skip
        return '<ul class="compact">' + "".join(f"<li>{page.link(c, n) if c else page.escape(n)}</li>" for c, n in cibles) + "</ul>"

    if sujet == "":
        feuille = release.page("Dictionnaire des données", "..", "dictionnaire/index.html")
        feuille.add(
            page.paragraph(
                f"{len(_tables)} tables publiées et {len(_sources)} sources. Tous les noms et toutes les définitions sont sur cette page : la recherche du navigateur "
                "(Ctrl+F) y trouve un mot. Chaque nom mène à sa page, avec unités, exemples, valeurs absentes et provenance."),
            page.heading("Tables publiées"),
            page.table(
                pl.DataFrame([{"nom": n, "lien": f"{n}.html", "definition": t["description"], "cle": ", ".join(t["cle"])} for n, t in _tables.items()]),
                "Une ligne par table", {"nom": "Table", "definition": "Ce qu'elle contient", "cle": "Clé"}, links={"nom": "lien"}),
            page.heading("Colonnes publiées"),
            page.table(
                pl.DataFrame([
                    {"nom": c["nom"], "table": n, "lien": f"{n}.html#c-{page.slug(c['nom'])}", "unite": c["unite"], "definition": c["description"]}
                    for n, t in _tables.items() for c in t["colonnes"]
                ], schema_overrides={"unite": pl.String}).sort("nom", "table"),
                "Par ordre alphabétique", {"nom": "Colonne", "table": "Table", "definition": "Définition", "unite": "Unité"}, links={"nom": "lien"}),
            page.heading("Sources"),
            page.table(
                pl.DataFrame([{"nom": n, "lien": f"sources-{s['groupe']}.html#{page.slug(n)}", "titre": s["titre"], "producteur": s["producteur"], "colonnes": ", ".join(f"{c['nom']}" + (f" ({c['origine']})" if c["origine"] and c["origine"] != c["nom"] else "") for c in s["colonnes"])} for n, s in _sources.items()]),
                "Sources et leurs colonnes, avec entre parenthèses le nom que leur donne le producteur",
                {"nom": "Source", "titre": "Titre", "producteur": "Producteur", "colonnes": "Colonnes"}, links={"nom": "lien"}),
            page.heading("Exemples prêts à lancer"),
            page.paragraph("Chacun dit en tête comment le lancer sur le dossier de cette publication."),
            *(page.fold(f"{_titre} : {_fichier}", page.code((exemples / _fichier).read_text(encoding="utf-8"), _titre)) for _fichier, _titre in (
                ("cinq_lignes.py", "Refaire un chiffre publié avec Polars"), ("requete.py", "DuckDB depuis Python"),
                ("requete.sql", "DuckDB en ligne de commande"), ("courbe.R", "R, sans aucun paquet"))),
        )  # fmt: skip
    elif sujet.startswith("table:"):
        _nom = sujet.removeprefix("table:")
        _table = _tables[_nom]
        feuille = release.page(f"Table {_nom}", "..", f"dictionnaire/{_nom}.html")
        _alt = f"{_nom} est faite à partir de {', '.join(_table['parents']) or 'rien d’autre'} et sert à faire {', '.join(_table['enfants']) or 'rien d’autre'}."
        _lignes = next(iter(faits.values()))["lignes"]
        feuille.add(
            page.paragraph(_table["description"]),
            page.paragraph(f"{page.count(_lignes, 'ligne')}. Clé : {', '.join(_table['cle']) or 'aucune'}. Fichier : parquet/{_nom}.parquet, et la table {_nom} de dernier_kilometre.duckdb."),
            page.heading("Colonnes"),
            page.table(
                pl.DataFrame([
                    {"nom": f'<code id="c-{page.slug(c["nom"])}">{page.escape(c["nom"])}</code>', "type": _types.get(c["type"], c["type"]), "unite": c["unite"], "definition": c["description"],
                     "exemples": faits[c["nom"]]["exemples"] or None, "absentes": 100 * (1 - faits[c["nom"]]["remplies"] / _lignes) if _lignes else None}
                    for c in _table["colonnes"]
                ], schema_overrides={"unite": pl.String, "exemples": pl.String, "absentes": pl.Float64}),
                f"Colonnes de {_nom}", {"nom": "Colonne", "definition": "Définition", "type": "Type", "unite": "Unité", "exemples": "Exemples", "absentes": "Vides (%)"},
                {"absentes": 1}, html=["nom"]),
        )  # fmt: skip
        if motifs is not None and motifs.height:
            feuille.add(page.heading("Pourquoi des valeurs manquent"), page.table(
                motifs, "Raisons les plus fréquentes", {"motif": "Raison", "statut": "Statut", "lignes": "Lignes"}))  # fmt: skip
        feuille.add(
            page.heading("Provenance"),
            '<div class="tableau" role="region" aria-label="Schéma de provenance" tabindex="0"><div style="min-width:46rem">' + figures.lineage(_table["parents"], _nom, _table["enfants"], _alt) + "</div></div>",
            page.paragraph("Faite à partir de :") if _table["parents"] else "", _lier(_table["parents"]) if _table["parents"] else "",
            page.paragraph("Sert à faire :") if _table["enfants"] else "", _lier(_table["enfants"]) if _table["enfants"] else "",
            page.fold(f"Sources à l'origine ({len(_table['sources'])})", _lier(_table["sources"])) if _table["sources"] else "",
        )  # fmt: skip
    else:
        _groupe = sujet.removeprefix("sources:")
        _siennes = {n: s for n, s in _sources.items() if s["groupe"] == _groupe}
        feuille = release.page(f"Sources {_groupe}", "..", f"dictionnaire/sources-{_groupe}.html")
        feuille.add(page.paragraph(f"{page.count(len(_siennes), 'source')} : ce que chaque fichier publié contient, colonne par colonne, avec le nom que lui donne son producteur."))
        for _nom, _source in _siennes.items():
            feuille.add(
                f'<h2 id="{page.slug(_nom)}">{page.escape(_source["titre"])}</h2>',
                page.paragraph(f"{_nom}. {_source['producteur']}. Licence : {_source['licence']}. Une ligne : {_source['grain'] or 'non précisé'}. Cadence : {_source['cadence']}.", "note"),
                page.paragraph(_source["description"]) if _source["description"] else "",
                page.paragraph(f"Livraison : {_source['regle_millesime']}") if _source["regle_millesime"] else "",
                page.paragraph(f"Avertissement : {page.count(_source['corrections'], 'valeur')} du producteur sont corrigées par déclaration, avec leur preuve.") if _source["corrections"] else "",
                page.table(
                    pl.DataFrame(_source["colonnes"], schema={"nom": pl.String, "type": pl.String, "unite": pl.String, "description": pl.String, "origine": pl.String}).with_columns(pl.col("type").replace(_types)),
                    f"Colonnes de {_nom}", {"nom": "Colonne", "origine": "Nom chez le producteur", "description": "Définition", "type": "Type", "unite": "Unité"}),
                "<p>Sert à faire :</p>" + _lier(_source["sert"]) if _source["sert"] else "",
            )  # fmt: skip
    return (feuille,)


@app.cell
def _(feuille, mo):
    mo.Html(feuille.live())
    return


if __name__ == "__main__":
    app.run()

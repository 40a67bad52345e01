"""Qualité et méthode : d'où viennent les données, ce qui a été refusé, comment on calcule, et ce que les chiffres ne disent pas."""

import marimo

app = marimo.App(app_title="Qualité et méthode", width="medium")


@app.cell
def _():
    import marimo as mo
    import polars as pl

    from notebooks.kit import page
    from notebooks.kit.release import open_release

    return mo, open_release, page, pl


@app.cell
def _(open_release):
    release = open_release()
    return (release,)


@app.cell
def _(release):
    fraicheur = release.query(
        "select f.*, s.titre, s.producteur, s.licence, s.cadence, s.lien_verifie from mart_fraicheur as f "
        "inner join dim_source as s using (source_id) order by s.producteur, s.titre"
    )
    rejets = release.query(
        "select s.titre, r.motif, r.ligne_gardee, count(*) as lignes from audit_rejet as r left join dim_source as s using (source_id) "
        "group by all order by lignes desc, s.titre, r.motif"
    )
    controles = release.query(
        "select etape, bloquant, count(*) as controles, sum(case when resultat = 'réussi' then 1 else 0 end) as reussis, "
        "sum(case when resultat = 'échoué' then 1 else 0 end) as echoues, sum(case when resultat = 'cassé' then 1 else 0 end) as casses "
        "from audit_controle group by all order by etape, bloquant desc"
    )
    echecs = release.query("select etape, cible, controle, resultat, pourquoi, observe from audit_controle where resultat <> 'réussi' order by etape, cible, controle")
    statuts = release.query(
        "select statut_valeur, split_part(coalesce(motif, ''), ' : ', 1) as motif, count(*) as valeurs from fct_observation where est_derniere_version group by all order by valeurs desc, statut_valeur, motif"
    )
    geographie = release.query("select max(cog_annee) as annee from dim_territoire where est_pivot")["annee"][0]
    couverture = release.query(
        "select c.*, i.intervention_nom from mart_couverture as c inner join dim_intervention as i using (intervention_id) order by i.intervention_nom"
    )
    return controles, couverture, echecs, fraicheur, geographie, rejets, statuts


@app.cell
def _(controles, couverture, echecs, fraicheur, geographie, page, pl, rejets, release, statuts):
    feuille = release.page("Qualité et méthode", name="qualite_et_methode.html")
    _jour = fraicheur["dernier_connue_le"].max()
    feuille.add(
        page.paragraph("D'où viennent les données, ce qui a été refusé, comment les réponses sont calculées, et ce que ces chiffres ne peuvent pas dire."),
        page.heading("La méthode en clair"),
        page.items([
            "Avancement : part du chemin parcouru entre la valeur de départ et la cible, à la dernière valeur connue. Elle n'est pas bornée : un recul est négatif. Aucun taux n'est calculé à travers une rupture de série.",
            "Situation : la valeur du territoire parmi des territoires comparables, choisis une fois pour toutes d'après leur taille, leur revenu et leur croissance d'avant les interventions. Une situation n'est jamais un impact.",
            "Impact : écart entre les territoires touchés et des témoins qui ne le sont pas, avant et après le début, selon un plan arrêté avant tout résultat. L'intervalle donné contient l'effet réel dans 95 cas sur 100 si les hypothèses tiennent.",
            "Un impact est dit non crédible, et son signe n'est pas montré, dès qu'une épreuve échoue : évolutions déjà différentes avant le début, effet trouvé à une date fictive, groupes qui ne se ressemblent pas, résultat qui change avec des choix raisonnables.",
            "Un impact est dit non concluant quand l'intervalle contient zéro. Cela ne veut pas dire qu'il est nul : un effet plus petit que l'effet minimal détectable a pu échapper.",
            "La promesse de la feuille de route est dite non mesurée quand les politiques publiques ou la vie quotidienne n'ont aucune valeur ; mesurée sans effet établi quand les deux en ont et qu'aucun impact n'est démontré.",
            "Les taux ne sont jamais moyennés entre territoires : ils sont recalculés d'après leurs numérateurs et dénominateurs, et seulement si 95 % de la population est couverte.",
            f"Les communes sont suivies à travers fusions et scissions ; tout est exprimé dans la géographie du code officiel au 1er janvier {geographie}.",
        ]),
        page.heading("Ce que les chiffres ne disent pas"),
        page.items([
            "Ils ne disent pas si un territoire donné va mieux à cause d'une intervention : un impact ne se mesure que sur l'ensemble des territoires touchés.",
            "Ils ne disent rien des interventions dont aucune liste datée de territoires n'est publiée.",
            "Ils ne séparent pas deux interventions qui commencent au même endroit à moins de deux ans l'une de l'autre.",
            "Un indicateur mesuré sur un territoire englobant (un département pour une action dans un quartier) ne dit rien de l'action elle-même.",
            "Une valeur absente n'est pas zéro : elle est écrite « – » dans les tableaux, hachurée sur les cartes, et sa raison est donnée.",
        ]),
        page.heading("Contrôles"),
        page.table(
            controles.with_columns(etape=pl.col("etape").replace({"arrivee": "à l'arrivée de chaque fichier", "entrepot": "dans l'entrepôt", "candidat": "sur la publication candidate"}),
                                   genre=pl.when("bloquant").then(pl.lit("bloquant")).otherwise(pl.lit("alerte"))),
            "Contrôles faits avant cette publication ; un contrôle bloquant non réussi empêche de publier, un fichier refusé à l'arrivée est remplacé par sa dernière bonne version",
            {"etape": "Étape", "genre": "Genre", "controles": "Contrôles", "reussis": "Réussis", "echoues": "Échoués", "casses": "Cassés"},
        ),
    )  # fmt: skip
    feuille.add(
        page.table(echecs, "Contrôles non réussis", {"cible": "Cible", "controle": "Contrôle", "resultat": "Résultat", "pourquoi": "Ce qu'il vérifie", "observe": "Observé"})
        if echecs.height else page.paragraph("Aucun contrôle n'a échoué."),
        page.heading("Valeurs absentes"),
        page.table(
            statuts.with_columns(pl.col("motif").replace("", None)).head(40), "Statut de la dernière version de chaque valeur",
            {"statut_valeur": "Statut", "motif": "Raison", "valeurs": "Valeurs"},
        ),
        page.heading("Ce que chaque intervention peut montrer"),
        page.table(
            couverture.with_columns(
                pp=pl.concat_str("observes_politique_publique", pl.lit(" sur "), "indicateurs_politique_publique"),
                vq=pl.concat_str("observes_vie_quotidienne", pl.lit(" sur "), "indicateurs_vie_quotidienne"),
                _lien=pl.concat_str(pl.lit("interventions/"), "intervention_id", pl.lit(".html")),
            ),
            "Indicateurs qui ont une valeur",
            {"intervention_nom": "Intervention", "pp": "Politique publique", "vq": "Vie quotidienne", "observes_a_deux_dates": "À deux dates ou plus", "territoires_actifs": "Territoires", "derniere_periode": "Dernière période"},
            links={"intervention_nom": "_lien"},
        ),
        page.heading("Fraîcheur"),
        page.paragraph(f"Donnée la plus récente connue le {page.day(_jour)}." if _jour else "Aucune donnée n'est connue."),
        page.table(
            fraicheur.with_columns(pl.col("statut").map_elements(page.state, return_dtype=pl.String)),
            "Les sources, leur dernière livraison et leur état",
            {"titre": "Source", "producteur": "Producteur", "dernier_millesime": "Livraison", "dernier_connue_le": "Connue le", "attendue_le": "Suivante attendue le", "statut": "État", "lignes_rejetees": "Lignes rejetées", "motif": "Remarque"},
            html=["statut"],
        ),
        page.heading("Lignes refusées"),
    )  # fmt: skip
    if rejets.height:
        feuille.add(
            page.paragraph("Chaque ligne refusée est publiée, avec son fichier et sa raison, dans la table audit_rejet. Les raisons les plus fréquentes :"),
            page.table(rejets.head(60), "Lignes refusées ou corrigées, par source et raison", {"titre": "Source", "motif": "Raison", "lignes": "Lignes", "ligne_gardee": "Ligne gardée"}),
        )  # fmt: skip
    else:
        feuille.add(page.paragraph("Aucune ligne n'a été refusée."))
    feuille.add(
        page.heading("Accessibilité et impression"),
        page.paragraph(
            "Ces pages n'ont ni script ni ressource extérieure. Elles sont contrôlées avec axe-core (WCAG 2.2, niveaux A et AA) à trois largeurs d'écran ; aucun audit "
            "RGAA complet n'a été mené, elles ne déclarent donc pas de conformité. Chaque figure a un texte de remplacement, et ses chiffres sont dans un tableau ou dans sa légende."),
    )  # fmt: skip
    feuille.sources = release.citations(fraicheur["source_id"].to_list())
    return (feuille,)


@app.cell
def _(feuille, mo):
    mo.Html(feuille.live())
    return


if __name__ == "__main__":
    app.run()

"""Refaire un chiffre publié à partir de la seule publication : la population municipale de la Creuse en 2023.

    python notebooks/exemples/cinq_lignes.py var/releases/current

Le dictionnaire (pages/dictionnaire/index.html) dit où chercher : fct_observation tient les valeurs, une ligne par indicateur,
territoire et période, la colonne provenance disant « publié » pour une commune et « agrégé » pour un département ;
bridge_territoire dit quelles communes (membre_code) forment un département (parent_code) dans un millésime (cog_annee).
"""

import datetime as dt
import sys

import polars as pl

tables = f"{sys.argv[1] if len(sys.argv) > 1 else 'var/releases/current'}/parquet"

valeurs = pl.scan_parquet(f"{tables}/fct_observation.parquet").filter(pl.col("est_derniere_version"), indicateur_id="population_municipale", periode_debut=dt.date(2023, 1, 1))
publie = valeurs.filter(territoire_niveau="departement", territoire_code="23").select("valeur", "cog_annee").collect().row(0, named=True)
communes = pl.scan_parquet(f"{tables}/bridge_territoire.parquet").filter(membre_niveau="commune", parent_niveau="departement", parent_code="23", cog_annee=publie["cog_annee"])
refait = communes.join(valeurs.filter(territoire_niveau="commune"), left_on="membre_code", right_on="territoire_code").select(pl.col("valeur").sum()).collect().item()
print(f"publié {publie['valeur']:.0f} ; refait {refait:.0f} ; {'identiques' if publie['valeur'] == refait else 'DIFFÉRENTS'}")

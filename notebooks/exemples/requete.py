"""DuckDB depuis Python : de chaque effet mesuré à sa conclusion, avec la phrase qui l'explique.

    python notebooks/exemples/requete.py var/releases/current

Le fichier s'ouvre en lecture seule ; plusieurs lecteurs peuvent l'ouvrir ensemble, et une publication nouvelle ne les gêne pas.
"""

import sys
from pathlib import Path

import duckdb

# Résoudre « current » une fois : une publication nouvelle ne change pas le dossier qu'on lit.
publication = Path(sys.argv[1] if len(sys.argv) > 1 else "var/releases/current").resolve()
with duckdb.connect(str(publication / "dernier_kilometre.duckdb"), read_only=True) as base:
    effets = base.execute("select statut, count(*), min(phrase) from mart_impact group by statut order by count(*) desc, statut").fetchall()
print(f"Publication {publication.name}")
for statut, nombre, exemple in effets:
    print(f"{nombre:>4} {statut} ; par exemple : {exemple}")

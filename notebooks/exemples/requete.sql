-- DuckDB en ligne de commande : ce que chaque intervention peut montrer, et pourquoi rien ne peut l'être.
--
--   cd var/releases/current && duckdb < ../../../notebooks/exemples/requete.sql
--
-- Les tables se lisent dans les fichiers Parquet de la publication. « duckdb -readonly dernier_kilometre.duckdb » les ouvre
-- toutes ensemble, sous leur nom (DuckDB 1.0 ou plus récent).
.mode csv
select
    i.intervention_nom,
    c.observes_politique_publique || ' sur ' || c.indicateurs_politique_publique as politique_publique,
    c.observes_vie_quotidienne || ' sur ' || c.indicateurs_vie_quotidienne as vie_quotidienne,
    c.territoires_actifs,
    coalesce(c.motif_sans_territoire, c.manquants) as ce_qui_manque,
    c.mention
from 'parquet/mart_couverture.parquet' as c
inner join 'parquet/dim_intervention.parquet' as i using (intervention_id)
order by c.observes_vie_quotidienne desc, i.intervention_nom;

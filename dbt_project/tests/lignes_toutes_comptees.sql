-- Rows in = rows kept + rows rejected + notes below the table, for every file kept.
select source_id, millesime, chemin
from {{ source('registre', 'livraisons') }}
where snapshot_sha256 is not null
  and lignes_lues <> lignes_gardees + lignes_rejetees + lignes_hors_tableau

-- The roadmap's promise has two halves: no intervention without an indicator on public policy and one on daily life.
select intervention_id, indicateurs_politique_publique, indicateurs_vie_quotidienne
from {{ ref('mart_couverture') }}
where indicateurs_politique_publique = 0 or indicateurs_vie_quotidienne = 0

-- The 101 départements of metropolitan and overseas France; collectivités d'outre-mer (975, 977...) are no départements.
select departement_code, nom, region_code
from {{ source('etalab', 'departements') }}
where _actuelle and type_zone in ('metro', 'drom')

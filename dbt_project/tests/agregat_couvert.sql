-- No aggregate below the declared coverage bears a value (R-MAN).
select indicateur_id, territoire_niveau, territoire_code, periode_debut, part_couverte
from {{ ref('fct_observation') }}
where provenance = 'agrégé' and valeur is not null
  and (part_couverte is null or part_couverte < {{ var('couverture_minimale') }})

{{ config(meta={'dagster': {'ref': {'name': 'fct_observation'}}}) }}
-- Every aggregate of an internal measure is the exact sum of the cells below it: the observation and the cell are one figure.
select observation.indicateur_id, observation.territoire_niveau, observation.territoire_code, observation.periode_debut
from {{ ref('fct_observation') }} as observation
inner join {{ ref('dim_indicateur') }} as indicateur on indicateur.indicateur_id = observation.indicateur_id
inner join {{ ref('int_cellule') }} as cellule
    on cellule.mesure_id = indicateur.calcul_numerateur and cellule.territoire_niveau = observation.territoire_niveau
    and cellule.territoire_code = observation.territoire_code and cellule.periode_debut = observation.periode_debut
    and cellule.periode_fin = observation.periode_fin
where indicateur.calcul_type in ('somme', 'ratio') and observation.est_derniere_version and observation.numerateur is not null
  and substring(observation.source_id, 1, 9) = 'interne__'
  and abs(observation.numerateur - cellule.valeur) > 1e-9 * abs(cellule.valeur)

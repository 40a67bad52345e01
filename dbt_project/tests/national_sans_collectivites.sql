{{ config(meta={'dagster': {'ref': {'name': 'fct_observation'}}}) }}
-- The national count of an exhaustive list is that of the départements of metropolitan France and overseas, as its name
-- says: what it lacks against the whole list is exactly what the collectivités hold.
with comptes as (
    select
        observation.indicateur_id, observation.periode_debut,
        coalesce(sum(case when observation.territoire_niveau = 'national' then observation.valeur end), 0) as national,
        coalesce(sum(case when departement.departement_code is not null then observation.valeur end), 0) as departements
    from {{ ref('fct_observation') }} as observation
    inner join {{ ref('int_indicateur') }} as indicateur
        on indicateur.indicateur_id = observation.indicateur_id
        and indicateur.calcul_exhaustif and indicateur.calcul_type = 'somme' and indicateur.calcul_niveaux is null
    left join {{ ref('int_departement') }} as departement
        on observation.territoire_niveau = 'departement' and departement.departement_code = observation.territoire_code
    where observation.est_derniere_version
    group by observation.indicateur_id, observation.periode_debut
)

-- Money adds up to the cent, not to the last bit.
select * from comptes where abs(national - departements) > 0.001

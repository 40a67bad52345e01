{{ config(meta={'dagster': {'ref': {'name': 'mart_sur_mesure'}}}) }}
-- What is shown of a register adds up exactly, from départements to régions and to the nation, in the mart of the protocol as
-- in the observations, and both say the same thing of the same territory and year.
{%- set comptes = [
    'demandes', 'demandes_reponse_locale', 'demandes_appui_national', 'demandes_closes', 'demandes_sans_suite', 'demandes_en_cours',
    'appuis_nationaux', 'appuis_fragiles', 'appuis_anciens_24m', 'appuis_realises_24m', 'demandes_en_manquement', 'manquements',
] %}
with departements as (
    select mart.*, departement.region_code
    from {{ ref('mart_sur_mesure') }} as mart
    inner join {{ ref('int_departement') }} as departement on departement.departement_code = mart.territoire_code
    where mart.territoire_niveau = 'departement'
),

sommes as (
    select 'region' as territoire_niveau, region_code as territoire_code, periode
        {%- for compte in comptes %}, sum({{ compte }}) as {{ compte }}{% endfor %}
    from departements
    group by region_code, periode
    union all
    select 'national', 'FR', periode
        {%- for compte in comptes %}, sum({{ compte }}){% endfor %}
    from departements
    group by periode
),

observations as (
    select
        observation.indicateur_id, observation.territoire_niveau, observation.territoire_code,
        cast({{ annee('observation.periode_debut') }} as {{ dbt.type_string() }}) as periode, observation.numerateur, observation.denominateur
    from {{ ref('fct_observation') }} as observation
    where observation.indicateur_id in ('sm_part_reponse_locale', 'sm_part_communes_fragiles', 'sm_projet_realise_24m')
      and observation.est_derniere_version
)

select 'niveaux' as ou, sommes.territoire_niveau, sommes.territoire_code, sommes.periode
from sommes
left join {{ ref('mart_sur_mesure') }} as mart
    on mart.territoire_niveau = sommes.territoire_niveau and mart.territoire_code = sommes.territoire_code and mart.periode = sommes.periode
where mart.demandes is null
    {%- for compte in comptes %} or mart.{{ compte }} <> sommes.{{ compte }}{% endfor %}
union all
select observations.indicateur_id, observations.territoire_niveau, observations.territoire_code, observations.periode
from observations
left join {{ ref('mart_sur_mesure') }} as mart
    on mart.territoire_niveau = observations.territoire_niveau and mart.territoire_code = observations.territoire_code
    and mart.periode = observations.periode
where mart.demandes is null
   or (observations.indicateur_id = 'sm_part_reponse_locale'
       and (observations.numerateur <> mart.numerateur or observations.denominateur <> mart.denominateur))
   or (observations.indicateur_id = 'sm_part_communes_fragiles'
       and (observations.numerateur <> mart.appuis_fragiles or observations.denominateur <> mart.appuis_nationaux))
   or (observations.indicateur_id = 'sm_projet_realise_24m'
       and (observations.numerateur <> mart.appuis_realises_24m or observations.denominateur <> mart.appuis_anciens_24m))

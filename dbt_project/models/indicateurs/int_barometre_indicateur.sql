-- Indicators that the two State barometers define themselves, with the label and unit of their producer.
with etalab as (
    select id_indicateur, indicateur_nom, unite, _publie_le from {{ source('etalab', 'barometre_departements') }} where _actuelle
    union all
    select id_indicateur, indicateur_nom, unite, _publie_le from {{ source('etalab', 'barometre_regions') }} where _actuelle
    union all
    select id_indicateur, indicateur_nom, unite, _publie_le from {{ source('etalab', 'barometre_national') }} where _actuelle
),

etalab_range as (
    select *, row_number() over (partition by id_indicateur order by _publie_le desc, indicateur_nom, unite) as rang
    from etalab
),

ditp as (
    select
        indic_id, libelle, description, tendance,
        row_number() over (partition by indic_id order by _millesime desc) as rang
    from {{ source('ditp', 'indicateurs') }}
    where _actuelle
)

select
    'etalab_' || replace(id_indicateur, '-', '_') as indicateur_id,
    indicateur_nom as libelle, unite, 'sans_objet' as sens_favorable,
    'Valeur publiée par le baromètre des résultats 2017-2022' as formule, 'barometre_2017_2022' as origine
from etalab_range where rang = 1
union all
select
    'ditp_' || replace(lower(indic_id), '-', '_'), libelle, null, tendance,
    coalesce(description, 'Valeur publiée par le baromètre des résultats 2022-2024'), 'barometre_2022_2024'
from ditp where rang = 1

-- Every indicator, wherever it is declared: an intervention's own, the shared ones, and the producers' barometers.
with propres as (
    select
        indicateur_id, libelle, type, domaine, unite, sens_favorable, formule, frequence, agregation, methode_contrefactuel,
        calcul_type, calcul_numerateur, calcul_denominateur, calcul_poids, calcul_facteur, calcul_niveaux, calcul_exhaustif,
        motif_sans_valeur, note, cible_publiee, 'catalogue' as origine
    from {{ source('catalogue', 'indicateurs') }}
    where _actuelle
    union all
    select
        indicateur_id, libelle, type, domaine, unite, sens_favorable, formule, frequence, agregation, methode_contrefactuel,
        calcul_type, calcul_numerateur, calcul_denominateur, calcul_poids, calcul_facteur, calcul_niveaux, calcul_exhaustif,
        motif_sans_valeur, note, cible_publiee, 'catalogue'
    from {{ source('catalogue', 'indicateurs_communs') }}
    where _actuelle
),

barometres as (
    select indicateur_id, libelle, unite, sens_favorable, formule, origine, cast(null as {{ dbt.type_string() }}) as motif_sans_valeur
    from {{ ref('int_barometre_indicateur') }}
),

-- Only their producer names them: while a whole barometer has not been delivered, the indicators that the catalogue
-- takes from it keep their identifier and say so. Once it is delivered, an identifier unknown to it is an error.
attendus as (
    select distinct
        partages.indicateur_id,
        case when partages.indicateur_id like 'ditp%' then 'barometre_2022_2024' else 'barometre_2017_2022' end as origine
    from {{ source('catalogue', 'indicateurs_partages') }} as partages
    left join {{ source('catalogue', 'indicateurs_communs') }} as communs
        on communs.indicateur_id = partages.indicateur_id and communs._actuelle
    where partages._actuelle and communs.indicateur_id is null
      and (partages.indicateur_id like 'ditp%' or partages.indicateur_id like 'etalab%')
),

barometres_ou_attendus as (
    select * from barometres
    union all
    select
        attendus.indicateur_id, attendus.indicateur_id || ' (libellé non chargé)', null, 'sans_objet',
        'Valeur publiée par le baromètre des résultats', attendus.origine,
        'le baromètre des résultats n''a pas été chargé : lancer « dk run » avec un miroir'
    from attendus
    where not exists (select 1 from barometres where barometres.origine = attendus.origine)
)

select *, {{ registre_de_la_mesure('calcul_numerateur') }} as registre from propres
union all
select
    indicateur_id, libelle, 'resultat', null, unite, sens_favorable, formule, null, 'non_agregeable', 'aucune',
    'valeur', indicateur_id, null, null, null, null, null,
    motif_sans_valeur, null, null, origine, null
from barometres_ou_attendus

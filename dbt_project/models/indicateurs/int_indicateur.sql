-- Every indicator, wherever it is declared: an intervention's own, the shared ones, and the producers' barometers.
with propres as (
    select
        indicateur_id, libelle, type, domaine, unite, sens_favorable, formule, frequence, agregation, methode_contrefactuel,
        calcul_type, calcul_numerateur, calcul_denominateur, calcul_poids, calcul_facteur, calcul_niveaux, calcul_exhaustif,
        motif_sans_valeur, note, 'catalogue' as origine
    from {{ source('catalogue', 'indicateurs') }}
    where _actuelle
    union all
    select
        indicateur_id, libelle, type, domaine, unite, sens_favorable, formule, frequence, agregation, methode_contrefactuel,
        calcul_type, calcul_numerateur, calcul_denominateur, calcul_poids, calcul_facteur, calcul_niveaux, calcul_exhaustif,
        motif_sans_valeur, note, 'catalogue'
    from {{ source('catalogue', 'indicateurs_communs') }}
    where _actuelle
),

barometres as (
    select indicateur_id, libelle, unite, sens_favorable, formule, origine from {{ ref('int_barometre_indicateur') }}
)

select * from propres
union all
select
    indicateur_id, libelle, 'resultat', null, unite, sens_favorable, formule, null, 'non_agregeable', 'aucune',
    'valeur', indicateur_id, null, null, null, null, null,
    null, null, origine
from barometres

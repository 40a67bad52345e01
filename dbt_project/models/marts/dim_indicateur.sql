select
    indicateur_id, libelle, type, domaine, unite, sens_favorable, formule, frequence, agregation, methode_contrefactuel,
    calcul_type, calcul_numerateur, coalesce(calcul_denominateur, calcul_poids) as calcul_denominateur,
    calcul_facteur, calcul_niveaux, origine, motif_sans_valeur, note
from {{ ref('int_indicateur') }}

-- What each intervention changes, against a counterfactual: the estimate with its interval, or the reason why there is none.
-- Numbers that carry a sign are there only when the status allows it; the rules of the status are in orchestration/impact.
select
    impact.estimation_id, impact.intervention_id, impact.indicateur_id, impact.rang, impact.unite, impact.methode, impact.transformation,
    impact.ponderation, cast(impact.horizon as {{ dbt.type_int() }}) as horizon, cast(impact.fixe_le as date) as fixe_le,
    impact.statut, impact.motif, impact.echecs,
    {% for nom in ['effet', 'effet_bas', 'effet_haut', 'erreur_type', 'p', 'q', 'p_holm', 'effet_unite', 'effet_unite_bas', 'effet_unite_haut',
        'effet_habitant', 'effet_habitant_bas', 'effet_habitant_haut', 'effet_imputation', 'effet_imputation_bas', 'effet_imputation_haut',
        'effet_tendance', 'effet_tendance_bas', 'effet_tendance_haut', 'choix_bas', 'choix_haut', 'emd', 'erreur_placebo', 'placebo_taille',
        'tendance_p', 'tendance_puissance', 'anticipation_p', 'placebo_date_p', 'lissage_m_rupture', 'temoins_equivalents',
        'debordement_indice', 'debordement_p', 'chevauchement_part', 'delai_moyen', 'part_retenue'] -%}
    cast(impact.{{ nom }} as {{ type_double() }}) as {{ nom }},
    {% endfor -%}
    {% for nom in ['choix_nombre', 'rupture_annee', 'anneau_unites', 'tirages', 'graine', 'unites_traitees', 'unites_temoins',
        'grappes_traitees', 'grappes_temoins', 'periodes'] -%}
    cast(impact.{{ nom }} as {{ dbt.type_int() }}) as {{ nom }},
    {% endfor -%}
    impact.estimateur, impact.inference, impact.ecartees, impact.notes, impact.phrase, impact.versions,
    impact.empreinte_panel, impact.empreinte_code, impact.empreinte, plan.mention
from {{ ref('int_impact') }} as impact
inner join {{ ref('int_estimation') }} as plan on plan.estimation_id = impact.estimation_id

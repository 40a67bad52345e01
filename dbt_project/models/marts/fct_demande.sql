-- Requests for engineering with the dated steps of the protocol: for authorised evaluators. No name, no free text.
select
    demande_id, departement_code, territoire_niveau, territoire_code, collectivite_fragile, date_demande,
    cast(annee as {{ dbt.type_int() }}) as annee, theme, voie, etat, interlocuteur_type, date_reception, date_designation,
    cast(attente_interlocuteur_jours as {{ dbt.type_int() }}) as attente_interlocuteur_jours, date_comite_local, date_reponse_locale, date_consolidation,
    insuffisance_locale, caractere_innovant, complexite_particuliere, ingenierie_rare, envergure_nationale, date_saisine,
    date_validation, date_refus, date_convention_appui, date_debut_appui, date_fin_appui, date_cloture_nationale, date_travaux,
    date_service, date_sans_suite, instrument, operateur, pilote, jours_ingenierie, cout_eur, date_registre,
    'interne__demande_ingenierie' as source_id, millesime, snapshot_sha256, mention
from {{ ref('int_demande') }}

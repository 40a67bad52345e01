{# The tailor-made protocol of the roadmap (II.c), rule by rule. A request breaks a rule when ``condition`` holds on its row
   of int_demande; ``preuve`` says in French which dates and values show it. Rules and their labels are written here only. #}
{% macro regles_du_protocole() -%}
{%- set fin_consolidation = fin_decembre(annee('date_reponse_locale') ~ ' + 1') -%}
{%- set un_an_sans_rien = dbt.dateadd('month', 12, 'date_dernier_evenement') -%}
{%- set appui_engage = "(date_debut_appui is not null or date_convention_appui is not null or (date_cloture_nationale is not null and date_refus is null))" -%}
{{ return([
    {
        'regle': 'interlocuteur_non_designe', 'gravite': 'majeure',
        'libelle': "Une réponse locale a un interlocuteur unique désigné par le délégué territorial.",
        'condition': "date_reponse_locale is not null and (date_designation is null or interlocuteur_type is null)",
        'preuve': "'réponse locale close le ' || " ~ jour('date_reponse_locale') ~ " || ' ; désignation : ' || " ~ jour('date_designation')
            ~ " || ' ; fonction de l''interlocuteur : ' || coalesce(interlocuteur_type, 'non renseignée')",
    },
    {
        'regle': 'interlocuteur_multiple', 'gravite': 'mineure',
        'libelle': "L'interlocuteur est unique : une demande n'en change pas.",
        'condition': "designations > 1",
        'preuve': "cast(designations as " ~ dbt.type_string() ~ ") || ' désignations, du ' || " ~ jour('date_designation') ~ " || ' au ' || "
            ~ jour('date_derniere_designation'),
    },
    {
        'regle': 'designation_tardive', 'gravite': 'majeure',
        'libelle': "L'interlocuteur est désigné avant que la réponse locale ne soit close.",
        'condition': "date_designation > date_reponse_locale",
        'preuve': "'désignation le ' || " ~ jour('date_designation') ~ " || ', après la réponse locale du ' || " ~ jour('date_reponse_locale'),
    },
    {
        'regle': 'comite_local_non_informe', 'gravite': 'majeure',
        'libelle': "Le délégué fait état de la réponse locale au comité local de cohésion territoriale, au plus tard quand elle est consolidée.",
        'condition': "date_reponse_locale is not null and date_comite_local is null and (date_consolidation is not null or date_registre >= "
            ~ fin_consolidation ~ ")",
        'preuve': "'réponse locale close le ' || " ~ jour('date_reponse_locale') ~ " || ' ; information du comité local : aucune ; consolidation : ' || "
            ~ jour('date_consolidation') ~ " || ' ; registre arrêté au ' || " ~ jour('date_registre'),
    },
    {
        'regle': 'consolidation_absente', 'gravite': 'majeure',
        'libelle': "Une réponse locale est consolidée par l'ANCT au plus tard dans l'année civile qui suit.",
        'condition': "date_reponse_locale is not null and (date_consolidation > " ~ fin_consolidation ~ " or (date_consolidation is null and date_registre >= "
            ~ fin_consolidation ~ "))",
        'preuve': "'réponse locale close le ' || " ~ jour('date_reponse_locale') ~ " || ', à consolider avant la fin de ' || cast("
            ~ annee('date_reponse_locale') ~ " + 1 as " ~ dbt.type_string() ~ ") || ' ; consolidation : ' || " ~ jour('date_consolidation')
            ~ " || ' ; registre arrêté au ' || " ~ jour('date_registre'),
    },
    {
        'regle': 'saisine_absente', 'gravite': 'majeure',
        'libelle': "Un appui national suppose que le délégué territorial ait saisi l'ANCT.",
        'condition': "est_appel_national and date_saisine is null",
        'preuve': "'voie : ' || coalesce(voie, 'non décidée') || ' ; début d''appui : ' || " ~ jour('date_debut_appui')
            ~ " || ' ; clôture de l''appui national : ' || " ~ jour('date_cloture_nationale') ~ " || ' ; saisine : aucune'",
    },
    {
        'regle': 'justification_absente', 'gravite': 'majeure',
        'libelle': "Un appel national se justifie par la fragilité de la collectivité et l'insuffisance de ressource locale, ou par un projet innovant ou particulièrement complexe, une ingénierie rare, une envergure nationale.",
        'condition': "est_appel_national and not coalesce(collectivite_fragile and insuffisance_locale, false) and not coalesce(caractere_innovant, false)"
            ~ " and not coalesce(complexite_particuliere, false) and not coalesce(ingenierie_rare, false) and not coalesce(envergure_nationale, false)",
        'preuve': "'collectivité fragile : ' || case when collectivite_fragile then 'oui' else 'non' end || ' ; insuffisance locale : ' || "
            ~ "case when insuffisance_locale then 'oui' else 'non' end || ' ; innovant, complexe, ingénierie rare, envergure nationale : non'",
    },
    {
        'regle': 'validation_absente', 'gravite': 'majeure',
        'libelle': "Le comité de suivi de l'ANCT valide la proposition avant la convention d'appui.",
        'condition': "date_convention_appui is not null and date_validation is null",
        'preuve': "'convention d''appui signée le ' || " ~ jour('date_convention_appui') ~ " || ' ; validation du comité de suivi avant elle : aucune'",
    },
    {
        'regle': 'appui_malgre_refus', 'gravite': 'majeure',
        'libelle': "Une proposition que le comité de suivi refuse n'est pas mise en œuvre sans validation ultérieure.",
        'condition': "(date_convention_appui is not null or date_debut_appui is not null) and date_refus is not null and (date_validation is null or date_validation < date_refus)",
        'preuve': "'refus du comité de suivi le ' || " ~ jour('date_refus') ~ " || ' ; validation : ' || " ~ jour('date_validation')
            ~ " || ' ; convention d''appui : ' || " ~ jour('date_convention_appui') ~ " || ' ; début d''appui : ' || " ~ jour('date_debut_appui'),
    },
    {
        'regle': 'convention_absente', 'gravite': 'majeure',
        'libelle': "L'appui national est formalisé dans une convention d'appui opérationnel.",
        'condition': "date_convention_appui is null and (date_debut_appui is not null or date_fin_appui is not null)",
        'preuve': "'début d''appui : ' || " ~ jour('date_debut_appui') ~ " || ' ; fin d''appui : ' || " ~ jour('date_fin_appui') ~ " || ' ; convention d''appui : aucune'",
    },
    {
        'regle': 'appui_avant_convention', 'gravite': 'majeure',
        'libelle': "L'appui national commence après la signature de sa convention.",
        'condition': "date_debut_appui < date_convention_appui",
        'preuve': "'début d''appui le ' || " ~ jour('date_debut_appui') ~ " || ', convention d''appui signée le ' || " ~ jour('date_convention_appui'),
    },
    {
        'regle': 'instrument_absent', 'gravite': 'majeure',
        'libelle': "Un appui national emploie l'un des instruments de l'ANCT.",
        'condition': appui_engage ~ " and instrument is null",
        'preuve': "'convention d''appui : ' || " ~ jour('date_convention_appui') ~ " || ' ; début d''appui : ' || " ~ jour('date_debut_appui') ~ " || ' ; instrument : aucun'",
    },
    {
        'regle': 'operateur_absent', 'gravite': 'majeure',
        'libelle': "Une convention opérateur désigne l'un des cinq opérateurs du premier cercle.",
        'condition': "instrument = 'convention opérateur' and (operateur is null or operateur not in ('"
            ~ var('operateurs_premier_cercle').values() | join("', '") ~ "'))",
        'preuve': "'instrument : convention opérateur ; opérateur : ' || coalesce(operateur, 'non renseigné')",
    },
    {
        'regle': 'pilotage_hors_delegue', 'gravite': 'majeure',
        'libelle': "Le délégué territorial demeure en charge du suivi et du pilotage du projet.",
        'condition': "est_appel_national and pilote <> 'délégué territorial'",
        'preuve': "'pilote : ' || pilote",
    },
    {
        'regle': 'double_cloture', 'gravite': 'majeure',
        'libelle': "Une demande n'est close qu'une fois : réponse locale, appui national ou sans suite.",
        'condition': "(case when date_reponse_locale is null then 0 else 1 end) + (case when date_cloture_nationale is null then 0 else 1 end)"
            ~ " + (case when date_sans_suite is null then 0 else 1 end) > 1",
        'preuve': "'réponse locale : ' || " ~ jour('date_reponse_locale') ~ " || ' ; appui national : ' || " ~ jour('date_cloture_nationale')
            ~ " || ' ; sans suite : ' || " ~ jour('date_sans_suite'),
    },
    {
        'regle': 'voie_contredite', 'gravite': 'majeure',
        'libelle': "La voie décidée est celle qui est suivie : la voie locale ne saisit pas l'ANCT, la voie nationale ne se clôt pas par une réponse locale.",
        'condition': "(voie = 'locale' and (date_saisine is not null or date_debut_appui is not null or date_cloture_nationale is not null))"
            ~ " or (voie = 'nationale' and date_reponse_locale is not null)",
        'preuve': "'voie : ' || voie || ' ; saisine de l''ANCT : ' || " ~ jour('date_saisine') ~ " || ' ; début d''appui : ' || " ~ jour('date_debut_appui')
            ~ " || ' ; réponse locale : ' || " ~ jour('date_reponse_locale') ~ " || ' ; clôture de l''appui national : ' || " ~ jour('date_cloture_nationale'),
    },
    {
        'regle': 'reponse_sans_voie', 'gravite': 'mineure',
        'libelle': "Une demande close dit par quelle voie elle a été traitée.",
        'condition': "voie is null and (date_reponse_locale is not null or date_cloture_nationale is not null)",
        'preuve': "'réponse locale : ' || " ~ jour('date_reponse_locale') ~ " || ' ; appui national : ' || " ~ jour('date_cloture_nationale') ~ " || ' ; voie : non renseignée'",
    },
    {
        'regle': 'demande_dormante', 'gravite': 'mineure',
        'libelle': "Une demande sans réponse ne reste pas plus de douze mois sans événement.",
        'condition': "etat = 'en cours' and " ~ un_an_sans_rien ~ " < date_registre",
        'preuve': "'demande du ' || " ~ jour('date_demande') ~ " || ' ; dernier événement le ' || " ~ jour('date_dernier_evenement')
            ~ " || ' ; registre arrêté au ' || " ~ jour('date_registre'),
    },
    {
        'regle': 'evenement_avant_demande', 'gravite': 'mineure',
        'libelle': "Aucun événement ne précède la demande.",
        'condition': "date_premier_evenement < date_demande",
        'preuve': "'demande du ' || " ~ jour('date_demande') ~ " || ' ; premier événement le ' || " ~ jour('date_premier_evenement'),
    },
    {
        'regle': 'dates_d_appui_inversees', 'gravite': 'mineure',
        'libelle': "Un appui finit après avoir commencé, et ses travaux ne précèdent pas la demande d'appui.",
        'condition': "date_fin_appui < date_debut_appui or (est_appel_national and date_travaux < date_saisine)",
        'preuve': "'début d''appui : ' || " ~ jour('date_debut_appui') ~ " || ' ; fin d''appui : ' || " ~ jour('date_fin_appui')
            ~ " || ' ; saisine : ' || " ~ jour('date_saisine') ~ " || ' ; travaux : ' || " ~ jour('date_travaux'),
    },
]) }}
{%- endmacro %}

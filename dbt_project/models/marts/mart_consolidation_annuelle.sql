-- The report that each délégué territorial owes once a year (roadmap II.c), one per département and year, ready to send:
-- requests received in the year and what became of them, and what was done in the year whenever it had been asked.
with demande as (
    select demande.*, coalesce(fautes.manquements, 0) as manquements
    from {{ ref('int_demande') }} as demande
    left join (select demande_id, count(*) as manquements from {{ ref('int_manquement') }} group by demande_id) as fautes
        on fautes.demande_id = demande.demande_id
),

bilan as (
    select * from {{ ref('mart_sur_mesure') }} where territoire_niveau = 'departement' and periode <> 'toutes'
),

lignes as (
    {%- set rubriques = [
        ('demandes', 'Demandes reçues', 'demandes', 'demandes', "'demandes parvenues au délégué dans l''année'"),
        ('closes', 'Demandes closes', 'demandes_closes', 'demandes', "'réponse locale ou appui national'"),
        ('reponse_locale', 'dont réponse locale', 'demandes_reponse_locale', 'demandes', 'null'),
        ('appui_national', 'dont appui national', 'demandes_appui_national', 'demandes', 'null'),
        ('sans_suite', 'Demandes sans suite', 'demandes_sans_suite', 'demandes', "'hors du calcul de la part locale'"),
        ('en_cours', 'Demandes sans réponse à ce jour', 'demandes_en_cours', 'demandes', 'null'),
        ('part_reponse_locale', 'Part des demandes closes ayant trouvé une réponse locale', 'part_reponse_locale', '%',
            "coalesce(motif, 'cible : ' || cast(cast(cible as " ~ dbt.type_int() ~ ") as " ~ dbt.type_string() ~ ") || ' %')"),
        ('wilson_bas', 'Borne basse de l\'intervalle de Wilson à 95 %', 'wilson_bas', '%', 'motif'),
        ('wilson_haut', 'Borne haute de l\'intervalle de Wilson à 95 %', 'wilson_haut', '%', 'motif'),
        ('ecart_cible', 'Écart à la cible', 'ecart_cible', 'points', 'motif'),
        ('delai_median', 'Délai médian jusqu\'à la désignation de l\'interlocuteur', 'delai_median_interlocuteur_jours', 'jours',
            "coalesce(delai_motif, cast(delai_censures as " ~ dbt.type_string() ~ ") || ' demande(s) sans désignation, censurée(s) à droite (Kaplan-Meier)')"),
    ] %}
    {%- set appuis = [
        ('appuis_nationaux', 'Appuis nationaux commencés', 'appuis_nationaux', 'demandes', 'null'),
        ('appuis_fragiles', 'dont collectivités fragiles', 'appuis_fragiles', 'demandes', 'null'),
        ('part_appuis_fragiles', 'Part allant aux collectivités fragiles', 'part_appuis_fragiles', '%',
            "case when appuis_nationaux = 0 then 'aucun appui national commencé' end"),
        ('appuis_anciens_24m', 'Appuis commencés depuis 24 mois au moins', 'appuis_anciens_24m', 'demandes', 'null'),
        ('appuis_realises_24m', 'dont projets en travaux ou en service à 24 mois', 'appuis_realises_24m', 'demandes', 'null'),
        ('part_realises_24m', 'Part en travaux ou en service à 24 mois', 'part_realises_24m', '%',
            "case when appuis_anciens_24m = 0 then 'aucun appui commencé depuis 24 mois' end"),
    ] %}
    {%- for section, contenu in [('1. Demandes de l\'année', rubriques), ('2. Appuis nationaux', appuis)] %}
    {%- set rang = loop.index %}
    {%- for rubrique, libelle, colonne, unite, commentaire in contenu %}
    select
        territoire_code as departement_code, cast({{ annee('periode_debut') }} as {{ dbt.type_int() }}) as annee,
        '{{ section | replace("'", "''") }}' as section, {{ rang * 1000 + loop.index }} as ordre, '{{ rubrique }}' as rubrique,
        '{{ libelle | replace("'", "''") }}' as libelle, cast({{ colonne }} as {{ type_double() }}) as valeur, '{{ unite }}' as unite,
        {{ commentaire }} as commentaire, mention
    from bilan
    union all
    {%- endfor %}
    {%- endfor %}

    {%- for rang, section, prefixe, colonne, absent in [
        (3, '3. Interlocuteurs des réponses locales', 'interlocuteur', 'interlocuteur_type', 'non renseigné'),
        (4, '4. Thèmes des demandes', 'theme', 'theme', 'non renseigné'),
    ] %}
    select
        departement_code, annee, '{{ section }}', {{ rang * 1000 }}, '{{ prefixe }} : ' || coalesce({{ colonne }}, '{{ absent }}'),
        coalesce({{ colonne }}, '{{ absent }}'), cast(count(*) as {{ type_double() }}), 'demandes', null, max(mention)
    from demande
    {% if colonne == 'interlocuteur_type' %}where etat = 'réponse locale'{% endif %}
    group by departement_code, annee, coalesce({{ colonne }}, '{{ absent }}')
    union all
    {%- endfor %}

    {%- for rang, mesure, libelle, expression, unite in [
        (1, 'appuis', 'appuis', 'count(*)', 'demandes'),
        (2, 'jours', 'jours d\'ingénierie', 'round(sum(jours_ingenierie), 6)', 'jours'),
        (3, 'cout', 'coût', 'round(sum(cout_eur), 6)', '€'),
        (4, 'anciens', 'appuis commencés depuis 24 mois au moins', 'sum(case when appui_ancien_24m then 1 else 0 end)', 'demandes'),
        (5, 'realises', 'projets en travaux ou en service à 24 mois', 'sum(case when appui_realise_24m then 1 else 0 end)', 'demandes'),
    ] %}
    select
        departement_code, annee, '5. Instruments des appuis nationaux', {{ 5000 + rang }},
        '{{ mesure }} : ' || coalesce(instrument, 'non renseigné'), coalesce(instrument, 'non renseigné') || ', {{ libelle | replace("'", "''") }}',
        cast({{ expression }} as {{ type_double() }}), '{{ unite }}',
        case when {{ expression }} is null then 'non renseigné au registre' end, max(mention)
    from demande
    where date_debut_appui is not null
    group by departement_code, annee, coalesce(instrument, 'non renseigné')
    union all
    {%- endfor %}

    {%- for rang, rubrique, libelle, colonne in [
        (1, 'reponses_locales_annee', 'Réponses locales closes dans l\'année', 'date_reponse_locale'),
        (2, 'designations_annee', 'Interlocuteurs désignés dans l\'année', 'date_designation'),
        (3, 'saisines_annee', 'Saisines de l\'ANCT dans l\'année', 'date_saisine'),
        (4, 'conventions_annee', 'Conventions d\'appui signées dans l\'année', 'date_convention_appui'),
        (5, 'travaux_annee', 'Projets passés en travaux dans l\'année', 'date_travaux'),
        (6, 'services_annee', 'Projets mis en service dans l\'année', 'date_service'),
    ] %}
    select
        departement_code, {{ annee(colonne) }}, '6. Activité de l''année', {{ 6000 + rang }}, '{{ rubrique }}', '{{ libelle | replace("'", "''") }}',
        cast(count(*) as {{ type_double() }}), 'demandes', 'quelle que soit l''année de la demande', max(mention)
    from demande
    where {{ colonne }} is not null
    group by departement_code, {{ annee(colonne) }}
    union all
    {%- endfor %}

    select
        departement_code, annee, '7. Manquements au protocole', 7000, 'manquement : ' || regle, libelle,
        cast(count(*) as {{ type_double() }}), 'manquements', 'gravité : ' || gravite, max(mention)
    from {{ ref('int_manquement') }}
    group by departement_code, annee, regle, libelle, gravite
    union all
    select
        territoire_code, {{ annee('periode_debut') }}, '7. Manquements au protocole', 7999, 'manquements', 'Demandes qui manquent à une règle au moins',
        cast(demandes_en_manquement as {{ type_double() }}), 'demandes', cast(manquements as {{ dbt.type_string() }}) || ' manquement(s) en tout', mention
    from bilan
),

origine as (
    select departement_code, max(millesime) as millesime, max(snapshot_sha256) as snapshot_sha256, max(date_registre) as date_registre
    from demande
    group by departement_code
)

select
    lignes.departement_code, cast(lignes.annee as {{ dbt.type_int() }}) as annee, lignes.section, cast(lignes.ordre as {{ dbt.type_int() }}) as ordre,
    lignes.rubrique, lignes.libelle, lignes.valeur, lignes.unite, lignes.commentaire, origine.date_registre,
    'interne__demande_ingenierie' as source_id, origine.millesime, origine.snapshot_sha256, lignes.mention
from lignes
inner join origine on origine.departement_code = lignes.departement_code

-- What records add to each internal measure, by sender and year. A record that a measure looks at but does not count adds a
-- zero: the absence of a case is then an observed zero, not a hole. Money keeps its unit (the financed action, the request,
-- the evaluated convention), whose share of the total statistical secrecy looks at; of what is counted, the number of cases
-- is enough (unites). Only measures that the catalogue asks for are here.
with demandee as (
    select * from {{ ref('int_mesure_demandee') }}
),

{%- set comptes = {
    'demandes': '1',
    'demandes_closes': "case when etat in ('réponse locale', 'appui national') then 1 else 0 end",
    'demandes_reponse_locale': "case when etat = 'réponse locale' then 1 else 0 end",
    'demandes_appui_national': "case when etat = 'appui national' then 1 else 0 end",
    'demandes_sans_suite': "case when etat = 'sans suite' then 1 else 0 end",
    'demandes_en_cours': "case when etat = 'en cours' then 1 else 0 end",
    'interlocuteurs_designes': 'case when interlocuteur_designe then 1 else 0 end',
    'demandes_sans_interlocuteur': 'case when interlocuteur_designe then 0 else 1 end',
    'appuis_nationaux': 'case when date_debut_appui is not null then 1 else 0 end',
    'demandes_sans_appui': 'case when date_debut_appui is null then 1 else 0 end',
    'appuis_fragiles': 'case when date_debut_appui is not null and collectivite_fragile then 1 else 0 end',
    'appuis_anciens_24m': 'case when appui_ancien_24m then 1 else 0 end',
    'appuis_recents': 'case when date_debut_appui is not null and not appui_ancien_24m then 1 else 0 end',
    'appuis_realises_24m': 'case when appui_realise_24m then 1 else 0 end',
    'demandes_en_manquement': 'case when manquements > 0 then 1 else 0 end',
    'demandes_conformes': 'case when manquements > 0 then 0 else 1 end',
    'manquements': 'manquements',
} %}
{%- set depenses = {
    'jours_ingenierie': ['jours_ingenierie', 'jours_ingenierie is not null'],
    'jours_valorises': ['jours_ingenierie', 'jours_ingenierie is not null and cout_eur is not null'],
    'cout_ingenierie': ['cout_eur', 'jours_ingenierie is not null and cout_eur is not null'],
} %}

demande as (
    select demande.*, coalesce(fautes.manquements, 0) as manquements
    from {{ ref('int_demande') }} as demande
    left join (select demande_id, count(*) as manquements from {{ ref('int_manquement') }} group by demande_id) as fautes
        on fautes.demande_id = demande.demande_id
),

demandes_de_l_annee as (
    select
        departement_code, annee, max(case when mention is null then 0 else 1 end) as est_demonstration
        {%- for mesure, valeur in comptes.items() %},
        sum({{ valeur }}) as {{ mesure }}
        {%- endfor %}
    from demande
    group by departement_code, annee
),

calendrier as (
    {{ annees_de_calendrier() }}
),

-- Conventions in force on 31 December of each year that the register has reached.
active as (
    select convention.*, calendrier.annee
    from {{ ref('int_convention') }} as convention
    inner join calendrier
        on {{ fin_decembre('calendrier.annee') }} >= convention.active_du
        and (convention.active_au is null or convention.active_au > {{ fin_decembre('calendrier.annee') }})
        and calendrier.annee <= {{ annee('convention.date_registre') }}
),

derniere_annee as (
    select max({{ annee('date_registre') }}) as annee from {{ ref('int_convention') }}
),

commune as (
    select territoire_code as commune_code, departement_code, population
    from {{ ref('dim_territoire') }}
    where territoire_niveau = 'commune' and est_pivot
),

-- Communes under a convention of the interventions that count inhabitants, once each however many conventions cover them.
commune_active as (
    select distinct active.intervention_id, active.annee, lien.membre_code as commune_code
    from active
    inner join (
        select parent_niveau, parent_code, membre_code from {{ ref('int_appartenance') }} where membre_niveau = 'commune'
        union all
        select 'commune', commune_code, commune_code from commune
    ) as lien
        on lien.parent_niveau = active.territoire_niveau and lien.parent_code = active.territoire_code
    inner join demandee on demandee.mesure_id = {{ dbt.concat(["'population_conventions__'", 'active.intervention_id']) }}
),

commune_livree as (
    select distinct action.intervention_id, action.annee, lien.membre_code as commune_code
    from {{ ref('int_action') }} as action
    inner join (
        select parent_niveau, parent_code, membre_code from {{ ref('int_appartenance') }} where membre_niveau = 'commune'
        union all
        select 'commune', commune_code, commune_code from commune
    ) as lien
        on lien.parent_niveau = action.territoire_niveau and lien.parent_code = action.territoire_code
    where action.statut = 'achevée' and action.convention_id is not null
),

populations as (
    select
        commune_active.intervention_id, commune_active.annee, commune_active.commune_code, commune.departement_code, commune.population,
        case when commune_livree.commune_code is not null then 1 else 0 end as est_livree
    from commune_active
    inner join commune on commune.commune_code = commune_active.commune_code
    left join commune_livree
        on commune_livree.intervention_id = commune_active.intervention_id and commune_livree.annee = commune_active.annee
        and commune_livree.commune_code = commune_active.commune_code
),

-- A commitment stands in the stock of every year since it was made; a payment since its last known day. One whose
-- payments are not known (empty, which is not zero) stays out of both.
cumul as (
    select
        engagement.*, calendrier.annee as annee_cumul,
        case when {{ annee('coalesce(engagement.date_dernier_paiement, engagement.date_engagement)') }} <= calendrier.annee
            then engagement.montant_paye_eur else 0 end as paye_alors
    from {{ ref('int_engagement') }} as engagement
    cross join (
        select max(jour) as date_registre
        from (
            select max(date_engagement) as jour from {{ ref('int_engagement') }}
            union all
            select max(date_dernier_paiement) from {{ ref('int_engagement') }}
        ) as jours
    ) as dernier_jour
    inner join calendrier on calendrier.annee between engagement.annee and {{ annee('dernier_jour.date_registre') }}
    where engagement.montant_paye_eur is not null
),

-- The last evaluation of each criterion in a year stands for that year.
critere as (
    select
        criteres.*, convention.intervention_id, convention.territoire_niveau, convention.territoire_code,
        {{ annee('criteres.date_evaluation') }} as annee,
        row_number() over (
            partition by criteres.convention_id, criteres.critere_famille, criteres.critere, {{ annee('criteres.date_evaluation') }}
            order by criteres.date_evaluation desc, criteres.grille_version desc
        ) as rang_annee
    from {{ ref('stg_interne__critere') }} as criteres
    inner join {{ ref('int_convention') }} as convention on convention.convention_id = criteres.convention_id
),

activation as (
    select
        activations.*, dernier_jour.date_registre,
        case activations.operateur
            {%- for slug, nom in var('operateurs_premier_cercle').items() %}
            when '{{ nom }}' then '{{ slug }}'
            {%- endfor %}
        end as operateur_id
    from {{ ref('stg_interne__convention_operateur') }} as activations
    cross join (
        select max(jour) as date_registre
        from (
            select max(date_demande) as jour from {{ ref('stg_interne__convention_operateur') }}
            union all
            select max(date_reponse) from {{ ref('stg_interne__convention_operateur') }}
            union all
            select max(date_financement) from {{ ref('stg_interne__convention_operateur') }}
            union all
            select max(date_service) from {{ ref('stg_interne__convention_operateur') }}
        ) as jours
    ) as dernier_jour
),

faits as (
    {% for mesure in comptes -%}
    select
        '{{ mesure }}' as mesure_id, cast(null as {{ dbt.type_string() }}) as unite, departement_code,
        cast(null as {{ dbt.type_string() }}) as perimetre_code, annee, cast({{ mesure }} as {{ type_double() }}) as valeur,
        {{ mesure }} as unites, est_demonstration
    from demandes_de_l_annee
    union all
    {% endfor %}
    {%- for mesure, regle in depenses.items() %}
    select '{{ mesure }}', demande_id, departement_code, null, annee, {{ regle[0] }}, 1, case when mention is null then 0 else 1 end
    from demande
    where {{ regle[1] }}
    union all
    select '{{ mesure }}', null, departement_code, null, annee, 0, 0, est_demonstration
    from demandes_de_l_annee
    union all
    {%- endfor %}

    {%- for famille, valeur in {
        'conventions_actives': '1.0',
        'conventions_chef_de_projet': 'case when chef_de_projet_en_poste then 1.0 else 0.0 end',
        'conventions_suivies': '1.0',
    }.items() %}
    select
        {{ dbt.concat(["'" ~ famille ~ "__'", 'active.intervention_id']) }}, active.convention_id, active.departement_code,
        case when active.territoire_niveau = 'perimetre' then active.territoire_code end, active.annee,
        {{ valeur }}, 1, case when active.mention is null then 0 else 1 end
    from active
    {%- if famille != 'conventions_actives' %}
    -- Who is in post today says nothing of past years; where it is not said, it is not counted.
    inner join derniere_annee on derniere_annee.annee = active.annee
    where active.chef_de_projet_en_poste is not null
    {%- endif %}
    union all
    {%- endfor %}
    select
        {{ dbt.concat(["'territoires_conventions__'", 'intervention_id']) }}, {{ dbt.concat(['territoire_niveau', "':'", 'territoire_code']) }},
        departement_code, case when territoire_niveau = 'perimetre' then territoire_code end, annee,
        1.0, 1, max(case when mention is null then 0 else 1 end)
    from active
    group by intervention_id, territoire_niveau, territoire_code, departement_code, annee
    union all
    -- Counted for the convention that takes over, in the year in which the old one ends.
    select
        {{ dbt.concat(["'conventions_fusionnees__'", 'reprise.intervention_id']) }}, ancienne.convention_id, ancienne.departement_code,
        case when reprise.territoire_niveau = 'perimetre' then reprise.territoire_code end,
        {{ annee('coalesce(ancienne.date_fin, reprise.date_signature)') }},
        1.0, 1, case when ancienne.mention is null then 0 else 1 end
    from {{ ref('int_convention') }} as ancienne
    inner join {{ ref('int_convention') }} as reprise on reprise.convention_id = ancienne.repris_par
    where ancienne.statut = 'fusionnée' and coalesce(ancienne.date_fin, reprise.date_signature) <= ancienne.date_registre
    union all
    {%- for famille, valeur, unites in [
        ('population_conventions', 'populations.population', 'count(*)'),
        ('population_action_livree', 'populations.population * populations.est_livree', 'sum(populations.est_livree)'),
    ] %}
    select
        {{ dbt.concat(["'" ~ famille ~ "__'", 'populations.intervention_id']) }}, null, populations.departement_code, null,
        populations.annee, sum({{ valeur }}), {{ unites }}, max(origine.est_demonstration)
    from populations
    cross join (
        select max(case when mention is null then 0 else 1 end) as est_demonstration from {{ ref('int_convention') }}
    ) as origine
    group by populations.intervention_id, populations.departement_code, populations.annee
    union all
    {%- endfor %}
    -- Nobody under a convention in force is an observed zero: money committed there still has its denominator.
    select
        {{ dbt.concat(["'population_conventions__'", 'concernes.intervention_id']) }}, null, concernes.departement_code, null, annees.annee, 0, 0, 0
    from (
        select intervention_id, departement_code from {{ ref('int_convention') }}
        union
        select intervention_id, departement_code from {{ ref('int_engagement') }}
    ) as concernes
    cross join (
        select annee from active
        union
        select annee from {{ ref('int_engagement') }}
    ) as annees
    union all
    select 'population_departement', null, expediteur.departement_code, null, annees.annee, expediteur.population, 1, expediteur.est_demonstration
    from (
        select
            convention.departement_code, max(territoire.population) as population,
            max(case when convention.mention is null then 0 else 1 end) as est_demonstration
        from {{ ref('int_convention') }} as convention
        inner join {{ ref('dim_territoire') }} as territoire
            on territoire.territoire_niveau = 'departement' and territoire.territoire_code = convention.departement_code and territoire.est_pivot
        group by convention.departement_code
    ) as expediteur
    cross join (select distinct annee from active) as annees
    union all

    {%- for famille, valeur in {
        'actions_inscrites': '1.0', 'actions_achevees': "case when statut = 'achevée' then 1.0 else 0.0 end",
    }.items() %}
    select
        {{ dbt.concat(["'" ~ famille ~ "__'", 'intervention_id']) }}, action_id, departement_code,
        case when territoire_niveau = 'perimetre' then territoire_code end, annee,
        {{ valeur }}, 1, case when mention is null then 0 else 1 end
    from {{ ref('int_action') }}
    where est_action
    union all
    {%- endfor %}
    {%- for famille, valeur in {
        'action_quantite': 'action.quantite', 'action_reference': 'action.quantite_reference', 'action_lignes': '1.0',
    }.items() %}
    select
        {{ dbt.concat(["'" ~ famille ~ "__'", 'action.indicateur_id']) }}, action.action_id, action.departement_code,
        case when action.territoire_niveau = 'perimetre' then action.territoire_code end, action.annee,
        {{ valeur }}, greatest(coalesce(action.beneficiaires, 1), 1), case when action.mention is null then 0 else 1 end
    from {{ ref('int_action') }} as action
    inner join demandee on demandee.mesure_id = {{ dbt.concat(["'action_quantite__'", 'action.indicateur_id']) }}
    where action.quantite is not null
      -- A part without its whole, or a mean without its weight, would weigh on one side of the fraction only.
      and (action.quantite_reference is not null or demandee.calcul_type in ('somme', 'valeur'))
      {%- if famille == 'action_quantite' %}
      and demandee.calcul_type in ('somme', 'ratio')
      {%- elif famille == 'action_reference' %}
      and action.quantite_reference is not null
      {%- endif %}
    union all
    {%- endfor %}

    {%- for famille, valeur in {
        'montant_engage': 'montant_engage_eur',
        'montant_etat': 'case when est_etat then montant_engage_eur else 0 end',
        'montant_concerte': 'case when est_concertee then montant_engage_eur else 0 end',
    }.items() %}
    select
        {{ dbt.concat(["'" ~ famille ~ "__'", 'intervention_id']) }}, coalesce(action_id, engagement_id), departement_code,
        case when territoire_niveau = 'perimetre' then territoire_code end, annee,
        {{ valeur }}, 1, case when mention is null then 0 else 1 end
    from {{ ref('int_engagement') }}
    union all
    {%- endfor %}
    {%- for famille, valeur in {'montant_engage_cumule': 'montant_engage_eur', 'montant_paye_cumule': 'paye_alors'}.items() %}
    select
        {{ dbt.concat(["'" ~ famille ~ "__'", 'intervention_id']) }}, coalesce(action_id, engagement_id), departement_code,
        case when territoire_niveau = 'perimetre' then territoire_code end, annee_cumul,
        {{ valeur }}, 1, case when mention is null then 0 else 1 end
    from cumul
    union all
    {%- endfor %}
    select
        {{ dbt.concat(["'engagements__'", 'intervention_id']) }}, engagement_id, departement_code, null, annee,
        1.0, 1, case when mention is null then 0 else 1 end
    from {{ ref('int_engagement') }}
    where date_dernier_paiement is not null or montant_paye_eur is not null
    union all
    {%- for famille, valeur in {
        'montant_evalue_ecologique': 'montant_total_eur', 'montant_favorable_ecologique': 'montant_favorable_eur',
    }.items() %}
    select
        {{ dbt.concat(["'" ~ famille ~ "__'", 'intervention_id']) }}, convention_id, departement_code,
        case when territoire_niveau = 'perimetre' then territoire_code end, annee,
        {{ valeur }}, 1, case when mention is null then 0 else 1 end
    from critere
    where critere_famille = 'écologique' and rang_annee = 1 and montant_favorable_eur is not null and montant_total_eur is not null
    union all
    {%- endfor %}

    {%- for famille, regle in {
        'formation_participants': ['participants', 'true'],
        'formation_elus': ["case when public = 'élus' then participants else 0 end", 'true'],
        'formation_elus_situes': ["case when public = 'élus' then participants else 0 end", 'participants_petites_communes is not null'],
        'formation_petites_communes': ["case when public = 'élus' then participants_petites_communes else 0 end", 'participants_petites_communes is not null'],
        'formation_evalues': ['participants', 'note_avant is not null and note_apres is not null'],
    }.items() %}
    select
        {{ dbt.concat(["'" ~ famille ~ "__'", 'intervention_id']) }}, session_id, departement_code, null, {{ annee('date_debut') }},
        {{ regle[0] }}, 1, case when mention is null then 0 else 1 end
    from {{ ref('stg_interne__formation') }}
    where {{ regle[1] }}
    union all
    {%- endfor %}

    {%- for famille, regle in {
        'concertations': ['1.0', 'true', 'date_ouverture'],
        'recommandations': ['recommandations', 'recommandations is not null and reponses_motivees is not null', 'coalesce(date_cloture, date_ouverture)'],
        'reponses_motivees': ['reponses_motivees', 'recommandations is not null and reponses_motivees is not null', 'coalesce(date_cloture, date_ouverture)'],
        'demarches_closes': ['1.0', 'date_cloture is not null and deliberation is not null', 'date_cloture'],
        'deliberations': ['case when deliberation then 1.0 else 0.0 end', 'date_cloture is not null and deliberation is not null', 'date_cloture'],
        'actions_prevues_18m': ['actions_prevues', 'actions_prevues is not null and actions_realisees_18m is not null', 'coalesce(date_cloture, date_ouverture)'],
        'actions_realisees_18m': ['actions_realisees_18m', 'actions_prevues is not null and actions_realisees_18m is not null', 'coalesce(date_cloture, date_ouverture)'],
    }.items() %}
    select
        {{ dbt.concat(["'" ~ famille ~ "__'", 'intervention_id']) }}, concertation_id, departement_code,
        case when territoire_niveau = 'perimetre' then territoire_code end, {{ annee(regle[2]) }},
        {{ regle[0] }}, 1, case when mention is null then 0 else 1 end
    from {{ ref('stg_interne__concertation') }}
    where {{ regle[1] }}
    union all
    {%- endfor %}
    select
        {{ dbt.concat(["'concertation_territoires__'", 'intervention_id']) }}, {{ dbt.concat(['territoire_niveau', "':'", 'territoire_code']) }},
        departement_code, case when territoire_niveau = 'perimetre' then territoire_code end, {{ annee('date_ouverture') }},
        1.0, 1, max(case when mention is null then 0 else 1 end)
    from {{ ref('stg_interne__concertation') }}
    group by intervention_id, territoire_niveau, territoire_code, departement_code, {{ annee('date_ouverture') }}
    union all

    {%- for famille, regle in {
        'programmes_incubes': ['1.0', 'date_deliberation_ca is not null', 'date_deliberation_ca'],
        'programmes_coconstruits': ['case when coconstruit then 1.0 else 0.0 end', 'date_deliberation_ca is not null', 'date_deliberation_ca'],
        'citoyens_associes': ['citoyens_associes', 'citoyens_associes is not null', 'date_lancement'],
    }.items() %}
    select
        '{{ famille }}', programme_id, departement_code, null, {{ annee(regle[2]) }},
        {{ regle[0] }}, 1, case when mention is null then 0 else 1 end
    from {{ ref('stg_interne__incubation') }}
    where {{ regle[1] }}
    union all
    {%- endfor %}

    {%- for famille, regle in {
        'operateur_demandes': ['1.0', "reponse in ('acceptée', 'en attente')", 'date_demande'],
        'operateur_acceptees': ['1.0', "reponse = 'acceptée'", 'date_reponse'],
        'operateur_anciennes_24m': ['1.0', "reponse = 'acceptée' and " ~ dbt.dateadd('month', 24, 'date_reponse') ~ ' <= date_registre', 'date_reponse'],
        'operateur_financees_24m': [
            'case when date_financement <= ' ~ dbt.dateadd('month', 24, 'date_reponse') ~ ' then 1.0 else 0.0 end',
            "reponse = 'acceptée' and " ~ dbt.dateadd('month', 24, 'date_reponse') ~ ' <= date_registre', 'date_reponse',
        ],
        'operateur_anciennes_36m': ['1.0', "reponse = 'acceptée' and " ~ dbt.dateadd('month', 36, 'date_reponse') ~ ' <= date_registre', 'date_reponse'],
        'operateur_service_36m': [
            'case when date_service <= ' ~ dbt.dateadd('month', 36, 'date_reponse') ~ ' then 1.0 else 0.0 end',
            "reponse = 'acceptée' and " ~ dbt.dateadd('month', 36, 'date_reponse') ~ ' <= date_registre', 'date_reponse',
        ],
    }.items() %}
    select
        {{ dbt.concat(["'" ~ famille ~ "__'", 'operateur_id']) }}, activation_id, departement_code, null, {{ annee(regle[2]) }},
        {{ regle[0] }}, 1, case when mention is null then 0 else 1 end
    from activation
    where {{ regle[1] }}
    {% if not loop.last %}union all{% endif %}
    {%- endfor %}
)

select
    faits.mesure_id, case when demandee.nature = 'montant' then faits.unite end as unite, faits.departement_code, departement.region_code,
    faits.perimetre_code, cast(faits.annee as {{ dbt.type_int() }}) as annee,
    {{ somme_exacte('faits.valeur', 4) }} as valeur,
    cast(case
        when max(case when demandee.nature = 'montant' then faits.unite end) is not null then max(case when faits.valeur <> 0 then faits.unites else 0 end)
        else sum(case when faits.valeur <> 0 then faits.unites else 0 end)
    end as {{ dbt.type_bigint() }}) as unites,
    max(faits.est_demonstration) as est_demonstration
from faits
inner join demandee on demandee.mesure_id = faits.mesure_id
left join {{ ref('int_departement') }} as departement on departement.departement_code = faits.departement_code
where faits.annee is not null and faits.valeur is not null
group by
    faits.mesure_id, case when demandee.nature = 'montant' then faits.unite end, faits.departement_code, departement.region_code,
    faits.perimetre_code, faits.annee

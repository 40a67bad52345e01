-- Times until something happens, subject by subject, for medians with right censoring: evenement is 1 when it happened
-- after duree days, 0 when the register was closed, or the question fell, before it did.
with engagement as (
    select engagement.*, convention.intervention_id
    from {{ ref('stg_interne__engagement_financier') }} as engagement
    inner join {{ ref('stg_interne__convention') }} as convention on convention.convention_id = engagement.convention_id
),

arret_engagement as (
    select max(jour) as date_registre
    from (
        select max(date_engagement) as jour from engagement
        union all
        select max(date_dernier_paiement) from engagement
    ) as jours
),

activation as (
    select
        activations.*,
        case activations.operateur
            {%- for slug, nom in var('operateurs_premier_cercle').items() %}
            when '{{ nom }}' then '{{ slug }}'
            {%- endfor %}
        end as operateur_id
    from {{ ref('stg_interne__convention_operateur') }} as activations
),

arret_activation as (
    select max(jour) as date_registre
    from (
        select max(date_demande) as jour from activation
        union all
        select max(date_reponse) from activation
    ) as jours
),

durees as (
    select
        'delai_interlocuteur' as mesure_id, departement_code, annee, attente_interlocuteur_jours as duree,
        case when interlocuteur_designe then 1 else 0 end as evenement, mention
    from {{ ref('int_demande') }}

    union all
    -- The register only knows the last payment: it bounds the first one from above. Nothing known of it: not a subject.
    select
        {{ dbt.concat(["'delai_versement__'", 'engagement.intervention_id']) }}, engagement.departement_code,
        {{ annee('engagement.date_engagement') }},
        {{ dbt.datediff('engagement.date_engagement', 'coalesce(engagement.date_dernier_paiement, arret_engagement.date_registre)', 'day') }},
        case when engagement.date_dernier_paiement is not null then 1 else 0 end, engagement.mention
    from engagement
    cross join arret_engagement
    where engagement.date_dernier_paiement is not null or engagement.montant_paye_eur is not null

    union all
    -- A refused request will never start: it is no subject.
    select
        {{ dbt.concat(["'operateur_delai__'", 'activation.operateur_id']) }}, activation.departement_code,
        {{ annee('activation.date_demande') }},
        {{ dbt.datediff('activation.date_demande', 'coalesce(activation.date_reponse, arret_activation.date_registre)', 'day') }},
        case when activation.reponse = 'acceptée' then 1 else 0 end, activation.mention
    from activation
    cross join arret_activation
    where activation.reponse in ('acceptée', 'en attente')
)

select
    durees.mesure_id, durees.departement_code, departement.region_code, cast(durees.annee as {{ dbt.type_int() }}) as annee,
    cast(durees.duree as {{ dbt.type_int() }}) as duree, durees.evenement, durees.mention
from durees
inner join {{ ref('int_mesure_demandee') }} as demandee on demandee.mesure_id = durees.mesure_id
left join {{ ref('int_departement') }} as departement on departement.departement_code = durees.departement_code

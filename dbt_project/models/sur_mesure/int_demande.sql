-- One row per request for engineering: what was asked, the dated steps of the protocol (roadmap II.c), where it stands.
-- A request is closed by its last closing event; without one it is still waiting. Nothing looks at today's date: what
-- has not happened yet is judged at the last event of the register.
with evenement as (
    select * from {{ ref('stg_interne__evenement_demande') }}
),

demande as (
    select * from {{ ref('stg_interne__demande_ingenierie') }}
),

dernier_jour as (
    select max(jour) as date_registre
    from (
        select max(date_evenement) as jour from evenement
        union all
        select max(date_demande) from demande
    ) as jours
),

etapes as (
    select
        demande_id,
        min(case when type_evenement = 'réception' then date_evenement end) as date_reception,
        min(case when type_evenement = 'désignation de l''interlocuteur' then date_evenement end) as date_designation,
        max(case when type_evenement = 'désignation de l''interlocuteur' then date_evenement end) as date_derniere_designation,
        sum(case when type_evenement = 'désignation de l''interlocuteur' then 1 else 0 end) as designations,
        min(case when type_evenement = 'information du comité local' then date_evenement end) as date_comite_local,
        min(case when type_evenement = 'saisine de l''ANCT' then date_evenement end) as date_saisine,
        min(case when type_evenement = 'signature de la convention d''appui' then date_evenement end) as date_convention_appui,
        min(case when type_evenement = 'début d''appui' then date_evenement end) as date_debut_appui,
        max(case when type_evenement = 'fin d''appui' then date_evenement end) as date_fin_appui,
        min(case when type_evenement = 'passage en travaux' then date_evenement end) as date_travaux,
        min(case when type_evenement = 'mise en service' then date_evenement end) as date_service,
        max(case when type_evenement = 'clôture réponse locale' then date_evenement end) as date_reponse_locale,
        max(case when type_evenement = 'clôture appui national' then date_evenement end) as date_cloture_nationale,
        max(case when type_evenement = 'sans suite' then date_evenement end) as date_sans_suite,
        min(date_evenement) as date_premier_evenement,
        max(date_evenement) as date_dernier_evenement,
        count(*) as evenements,
        max(mention) as mention
    from evenement
    group by demande_id
),

-- Steps that count only before or after another one.
suites as (
    select
        evenement.demande_id,
        min(case when evenement.type_evenement = 'consolidation annuelle' and evenement.date_evenement >= etapes.date_reponse_locale
            then evenement.date_evenement end) as date_consolidation,
        max(case when evenement.type_evenement = 'validation du comité de suivi'
            and evenement.date_evenement <= coalesce(etapes.date_convention_appui, etapes.date_debut_appui, evenement.date_evenement)
            then evenement.date_evenement end) as date_validation,
        max(case when evenement.type_evenement = 'refus du comité de suivi'
            and evenement.date_evenement <= coalesce(etapes.date_convention_appui, etapes.date_debut_appui, evenement.date_evenement)
            then evenement.date_evenement end) as date_refus
    from evenement
    inner join etapes on etapes.demande_id = evenement.demande_id
    where evenement.type_evenement in ('consolidation annuelle', 'validation du comité de suivi', 'refus du comité de suivi')
    group by evenement.demande_id
),

reunies as (
    select
        demande.demande_id, demande.departement_code, departement.region_code, demande.territoire_niveau, demande.territoire_code,
        demande.collectivite_fragile, demande.date_demande, {{ annee('demande.date_demande') }} as annee, demande.theme, demande.voie,
        demande.interlocuteur_type, demande.insuffisance_locale, demande.caractere_innovant, demande.complexite_particuliere,
        demande.ingenierie_rare, demande.envergure_nationale, demande.instrument, demande.operateur, demande.pilote,
        demande.jours_ingenierie, demande.cout_eur,
        etapes.date_reception, etapes.date_designation, etapes.date_derniere_designation,
        coalesce(etapes.designations, 0) as designations, etapes.date_comite_local, suites.date_consolidation, etapes.date_saisine,
        suites.date_validation, suites.date_refus, etapes.date_convention_appui, etapes.date_debut_appui, etapes.date_fin_appui,
        etapes.date_travaux, etapes.date_service, etapes.date_reponse_locale, etapes.date_cloture_nationale, etapes.date_sans_suite,
        etapes.date_premier_evenement, coalesce(etapes.date_dernier_evenement, demande.date_demande) as date_dernier_evenement,
        coalesce(etapes.evenements, 0) as evenements,
        dernier_jour.date_registre,
        greatest(
            coalesce(etapes.date_reponse_locale, cast('1900-01-01' as date)),
            coalesce(etapes.date_cloture_nationale, cast('1900-01-01' as date)),
            coalesce(etapes.date_sans_suite, cast('1900-01-01' as date))
        ) as date_cloture,
        demande._millesime as millesime, demande._snapshot_sha256 as snapshot_sha256, demande._connue_le as connue_le,
        coalesce(demande.mention, etapes.mention) as mention
    from demande
    cross join dernier_jour
    left join etapes on etapes.demande_id = demande.demande_id
    left join suites on suites.demande_id = demande.demande_id
    left join {{ ref('int_departement') }} as departement on departement.departement_code = demande.departement_code
),

situees as (
    select
        reunies.*,
        -- Closed twice on the same day: the heavier answer is kept, and the double closing is a breach.
        case
            when date_cloture_nationale = date_cloture then 'appui national'
            when date_reponse_locale = date_cloture then 'réponse locale'
            when date_sans_suite = date_cloture then 'sans suite'
            else 'en cours'
        end as etat,
        coalesce(
            voie = 'nationale' or date_saisine is not null or date_debut_appui is not null or date_cloture_nationale is not null, false
        ) as est_appel_national,
        -- Nobody waits for an interlocutor once the request is answered, dropped or sent up to the ANCT.
        coalesce(date_designation, least(
            coalesce(date_reponse_locale, date_registre), coalesce(date_saisine, date_registre),
            coalesce(date_cloture_nationale, date_registre), coalesce(date_sans_suite, date_registre)
        )) as date_fin_attente
    from reunies
)

select
    situees.*,
    -- A date before the request is a mistake that the protocol reports; it makes no negative wait.
    cast(greatest({{ dbt.datediff('date_demande', 'date_fin_attente', 'day') }}, 0) as {{ dbt.type_int() }}) as attente_interlocuteur_jours,
    date_designation is not null as interlocuteur_designe,
    coalesce({{ dbt.dateadd('month', 24, 'date_debut_appui') }} <= date_registre, false) as appui_ancien_24m,
    -- Most projects are in works before they serve; one may go straight to service.
    coalesce(least(coalesce(date_travaux, date_service), coalesce(date_service, date_travaux))
        <= {{ dbt.dateadd('month', 24, 'date_debut_appui') }}
        and {{ dbt.dateadd('month', 24, 'date_debut_appui') }} <= date_registre, false) as appui_realise_24m
from situees

-- Progress against target, from initial, current and target values (rule R-TA, PILOTE's formula with its defects corrected).
-- The bounded rate is for display; the unbounded one keeps overshoot and regression visible. A target that was changed
-- is a new version with its author and reason; the rate against the old one stays beside it (R-REV).
with publie as (
    select
        'ditp_' || replace(lower(indic_id), '-', '_') as indicateur_id,
        case maille when 'DEPT' then 'departement' when 'REG' then 'region' else 'national' end as territoire_niveau,
        case when maille = 'NAT' then 'FR' else substring(zone_code, 2, 10) end as territoire_code,
        date_valeur, vi, va, vc, ta, _snapshot_sha256 as snapshot_sha256,
        _connue_le as connue_le
    from {{ source('ditp', 'barometre') }}
    where _actuelle
),

initiale as (
    select indicateur_id, territoire_niveau, territoire_code, date_valeur, vi as valeur,
        row_number() over (partition by indicateur_id, territoire_niveau, territoire_code order by connue_le desc, date_valeur) as rang
    from publie where vi is not null
),

actuelle as (
    select *,
        row_number() over (partition by indicateur_id, territoire_niveau, territoire_code order by date_valeur desc, connue_le desc) as rang
    from publie where va is not null
),

cible as (
    select indicateur_id, territoire_niveau, territoire_code, date_valeur, vc as valeur,
        row_number() over (partition by indicateur_id, territoire_niveau, territoire_code order by date_valeur desc, connue_le desc) as rang
    from publie where vc is not null
),

territoires as (
    select distinct indicateur_id, territoire_niveau, territoire_code from publie
),

du_barometre as (
    select
        territoires.indicateur_id, territoires.territoire_niveau, territoires.territoire_code,
        initiale.valeur as valeur_initiale, initiale.date_valeur as date_initiale,
        actuelle.va as valeur_actuelle, actuelle.date_valeur as date_actuelle,
        cible.valeur as valeur_cible, cible.date_valeur as date_cible,
        actuelle.ta as taux_publie, actuelle.snapshot_sha256
    from territoires
    left join initiale
        on initiale.indicateur_id = territoires.indicateur_id and initiale.territoire_niveau = territoires.territoire_niveau
        and initiale.territoire_code = territoires.territoire_code and initiale.rang = 1
    left join actuelle
        on actuelle.indicateur_id = territoires.indicateur_id and actuelle.territoire_niveau = territoires.territoire_niveau
        and actuelle.territoire_code = territoires.territoire_code and actuelle.rang = 1
    left join cible
        on cible.indicateur_id = territoires.indicateur_id and cible.territoire_niveau = territoires.territoire_niveau
        and cible.territoire_code = territoires.territoire_code and cible.rang = 1
),

objectif as (
    select
        objectifs.*,
        row_number() over (partition by indicateur_id, territoire_niveau, territoire_code order by version desc) as rang_version
    from {{ ref('stg_interne__objectif') }} as objectifs
),

-- The last observed value of each targeted territory: the same one for all versions of its target.
observee as (
    select
        observation.indicateur_id, observation.territoire_niveau, observation.territoire_code, observation.valeur,
        observation.periode_fin, observation.mention,
        row_number() over (
            partition by observation.indicateur_id, observation.territoire_niveau, observation.territoire_code
            order by observation.periode_fin desc, observation.periode_debut desc
        ) as rang_periode
    from {{ ref('fct_observation') }} as observation
    inner join (select distinct indicateur_id, territoire_niveau, territoire_code from objectif) as vises
        on vises.indicateur_id = observation.indicateur_id and vises.territoire_niveau = observation.territoire_niveau
        and vises.territoire_code = observation.territoire_code
    where observation.est_derniere_version and observation.valeur is not null
),

bases as (
    select
        indicateur_id, territoire_niveau, territoire_code, 1 as version_objectif, true as est_version_courante,
        valeur_initiale, date_initiale, valeur_actuelle, date_actuelle, valeur_cible, date_cible, taux_publie,
        cast(null as date) as date_decision, cast(null as {{ dbt.type_string() }}) as auteur_fonction,
        cast(null as {{ dbt.type_string() }}) as motif_objectif,
        'ditp__barometre' as source_id, snapshot_sha256, cast(null as {{ dbt.type_string() }}) as mention
    from du_barometre
    union all
    select
        objectif.indicateur_id, objectif.territoire_niveau, objectif.territoire_code, objectif.version, objectif.rang_version = 1,
        objectif.valeur_initiale, objectif.date_initiale, observee.valeur, observee.periode_fin, objectif.valeur_cible, objectif.date_cible, null,
        objectif.date_decision, objectif.auteur_fonction, objectif.motif,
        'interne__objectif', objectif._snapshot_sha256, coalesce(objectif.mention, observee.mention)
    from objectif
    left join observee
        on observee.indicateur_id = objectif.indicateur_id and observee.territoire_niveau = objectif.territoire_niveau
        and observee.territoire_code = objectif.territoire_code and observee.rang_periode = 1
),

reunies as (
    select
        bases.*, indicateur.sens_favorable,
        coalesce(serie_initiale.serie, 1) as serie_initiale,
        coalesce(serie_actuelle.serie, 1) as serie_actuelle
    from bases
    inner join {{ ref('int_indicateur') }} as indicateur on indicateur.indicateur_id = bases.indicateur_id
    left join {{ ref('int_serie') }} as serie_initiale
        on serie_initiale.indicateur_id = bases.indicateur_id
        and bases.date_initiale >= serie_initiale.date_debut
        and (serie_initiale.date_fin is null or bases.date_initiale < serie_initiale.date_fin)
    left join {{ ref('int_serie') }} as serie_actuelle
        on serie_actuelle.indicateur_id = bases.indicateur_id
        and bases.date_actuelle >= serie_actuelle.date_debut
        and (serie_actuelle.date_fin is null or bases.date_actuelle < serie_actuelle.date_fin)
),

jugees as (
    select
        reunies.*,
        case
            when valeur_initiale is null then 'valeur initiale manquante'
            when valeur_cible is null then 'valeur cible manquante'
            when valeur_actuelle is null then 'valeur actuelle manquante'
            when serie_initiale <> serie_actuelle then 'rupture de série entre la valeur initiale et la valeur actuelle'
            when sens_favorable not in ('hausse', 'baisse') then 'sens favorable non déclaré'
        end as motif,
        case
            when sens_favorable = 'baisse' and valeur_initiale <= valeur_cible then true
            when sens_favorable = 'hausse' and valeur_initiale >= valeur_cible then true
            else false
        end as cible_deja_atteinte
    from reunies
),

calculees as (
    select
        jugees.*,
        case
            when motif is not null then null
            -- The initial value is at or past the target: reached or not, there is no distance to measure.
            when cible_deja_atteinte and sens_favorable = 'baisse' then case when valeur_actuelle <= valeur_cible then 100.0 else 0.0 end
            when cible_deja_atteinte then case when valeur_actuelle >= valeur_cible then 100.0 else 0.0 end
            else 100.0 * (valeur_actuelle - valeur_initiale) / (valeur_cible - valeur_initiale)
        end as taux
    from jugees
)

select
    indicateur_id, territoire_niveau, territoire_code,
    {{ var('cog_pivot') }} as cog_annee,
    cast(version_objectif as {{ dbt.type_int() }}) as version_objectif,
    est_version_courante,
    sens_favorable,
    valeur_initiale, date_initiale, valeur_actuelle, date_actuelle, valeur_cible, date_cible,
    cast(taux as {{ type_double() }}) as taux_avancement,
    cast(case when taux < 0 then 0 when taux > 100 then 100 else taux end as {{ type_double() }}) as taux_avancement_borne,
    cible_deja_atteinte,
    motif,
    taux_publie,
    date_decision, auteur_fonction, motif_objectif,
    source_id,
    snapshot_sha256,
    mention
from calculees

-- Progress against target, from initial, current and target values (rule R-TA, PILOTE's formula with its defects corrected).
-- The bounded rate is for display; the unbounded one keeps overshoot and regression visible.
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

reunies as (
    select
        territoires.indicateur_id, territoires.territoire_niveau, territoires.territoire_code,
        indicateur.sens_favorable,
        initiale.valeur as valeur_initiale, initiale.date_valeur as date_initiale,
        actuelle.va as valeur_actuelle, actuelle.date_valeur as date_actuelle,
        cible.valeur as valeur_cible, cible.date_valeur as date_cible,
        actuelle.ta as taux_publie,
        coalesce(serie_initiale.serie, 1) as serie_initiale,
        coalesce(serie_actuelle.serie, 1) as serie_actuelle,
        actuelle.snapshot_sha256
    from territoires
    inner join {{ ref('int_indicateur') }} as indicateur on indicateur.indicateur_id = territoires.indicateur_id
    left join initiale
        on initiale.indicateur_id = territoires.indicateur_id and initiale.territoire_niveau = territoires.territoire_niveau
        and initiale.territoire_code = territoires.territoire_code and initiale.rang = 1
    left join actuelle
        on actuelle.indicateur_id = territoires.indicateur_id and actuelle.territoire_niveau = territoires.territoire_niveau
        and actuelle.territoire_code = territoires.territoire_code and actuelle.rang = 1
    left join cible
        on cible.indicateur_id = territoires.indicateur_id and cible.territoire_niveau = territoires.territoire_niveau
        and cible.territoire_code = territoires.territoire_code and cible.rang = 1
    left join {{ ref('int_serie') }} as serie_initiale
        on serie_initiale.indicateur_id = territoires.indicateur_id
        and initiale.date_valeur >= serie_initiale.date_debut
        and (serie_initiale.date_fin is null or initiale.date_valeur < serie_initiale.date_fin)
    left join {{ ref('int_serie') }} as serie_actuelle
        on serie_actuelle.indicateur_id = territoires.indicateur_id
        and actuelle.date_valeur >= serie_actuelle.date_debut
        and (serie_actuelle.date_fin is null or actuelle.date_valeur < serie_actuelle.date_fin)
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
    sens_favorable,
    valeur_initiale, date_initiale, valeur_actuelle, date_actuelle, valeur_cible, date_cible,
    cast(taux as {{ type_double() }}) as taux_avancement,
    cast(case when taux < 0 then 0 when taux > 100 then 100 else taux end as {{ type_double() }}) as taux_avancement_borne,
    cible_deja_atteinte,
    motif,
    taux_publie,
    'ditp__barometre' as source_id,
    snapshot_sha256
from calculees

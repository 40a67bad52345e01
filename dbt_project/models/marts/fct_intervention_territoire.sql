-- Who was treated where, from when to when. Entries and departures are read from the successive states of the lists:
-- a territory that a later state of the same list no longer holds has left by that date (no survivor bias, R-REV).
with liste as (
    select * from {{ ref('int_liste') }} where territoire_code is not null
),

etats as (
    select intervention_id, etat_date, max(case when date_debut is not null then 1 else 0 end) as est_date
    from liste
    group by intervention_id, etat_date
),

-- The latest state that bears dates is the reference for them; older ones only speak for those who left before it.
etat_date_reference as (
    select intervention_id, max(etat_date) as etat_date from etats where est_date = 1 group by intervention_id
),

presence as (
    select
        intervention_id, territoire_niveau, territoire_code, max(cog_annee) as cog_annee,
        min(etat_date) as premiere_apparition,
        max(etat_date) as derniere_apparition,
        count(distinct etat_date) as nb_etats,
        min(date_debut) as date_min
    from liste
    group by intervention_id, territoire_niveau, territoire_code
),

date_de_reference as (
    select
        liste.intervention_id, liste.territoire_niveau, liste.territoire_code,
        max(case when liste.etat_date = reference.etat_date then 1 else 0 end) as dans_reference,
        min(case when liste.etat_date = reference.etat_date then liste.date_debut end) as date_reference
    from liste
    inner join etat_date_reference as reference on reference.intervention_id = liste.intervention_id
    group by liste.intervention_id, liste.territoire_niveau, liste.territoire_code
),

-- A state that holds no territory of a level (a map without départements) says nothing of those of that level.
etats_du_niveau as (
    select distinct intervention_id, territoire_niveau, etat_date from liste
),

suite as (
    select presence.intervention_id, presence.territoire_niveau, presence.territoire_code, min(etats.etat_date) as date_fin
    from presence
    inner join etats_du_niveau as etats
        on etats.intervention_id = presence.intervention_id and etats.territoire_niveau = presence.territoire_niveau
        and etats.etat_date > presence.derniere_apparition
    group by presence.intervention_id, presence.territoire_niveau, presence.territoire_code
),

dernier as (
    select
        intervention_id, territoire_niveau, territoire_code, projet_id, projet_nom, source_id, millesime, snapshot_sha256,
        row_number() over (
            partition by intervention_id, territoire_niveau, territoire_code
            order by etat_date desc, source_id, projet_id nulls last, ligne
        ) as rang
    from liste
),

depuis_les_listes as (
    select
        presence.intervention_id,
        presence.territoire_niveau,
        presence.territoire_code,
        presence.cog_annee,
        case
            -- A perimeter that a new generation renews began with its first one.
            when presence.territoire_niveau = 'perimetre' then presence.date_min
            when date_de_reference.dans_reference = 1 then date_de_reference.date_reference
            else presence.date_min
        end as date_debut,
        suite.date_fin,
        case when suite.date_fin is null then 'actif' else 'sorti' end as statut,
        presence.premiere_apparition,
        presence.derniere_apparition,
        presence.nb_etats,
        dernier.projet_id,
        dernier.projet_nom,
        dernier.source_id,
        dernier.millesime,
        dernier.snapshot_sha256
    from presence
    inner join dernier
        on dernier.intervention_id = presence.intervention_id
        and dernier.territoire_niveau = presence.territoire_niveau
        and dernier.territoire_code = presence.territoire_code
        and dernier.rang = 1
    left join date_de_reference
        on date_de_reference.intervention_id = presence.intervention_id
        and date_de_reference.territoire_niveau = presence.territoire_niveau
        and date_de_reference.territoire_code = presence.territoire_code
    left join suite
        on suite.intervention_id = presence.intervention_id
        and suite.territoire_niveau = presence.territoire_niveau
        and suite.territoire_code = presence.territoire_code
),

depuis_le_catalogue as (
    select
        intervention_id, 'perimetre' as territoire_niveau, perimetre_code as territoire_code,
        {{ var('cog_pivot') }} as cog_annee,
        min(date_debut) as date_debut, max(date_fin) as date_fin, perimetre_nom,
        max(_snapshot_sha256) as snapshot_sha256, max(_millesime) as millesime, max(_publie_le) as publie_le
    from {{ source('catalogue', 'perimetres') }}
    where _actuelle
    group by intervention_id, perimetre_code, perimetre_nom
)

select
    intervention_id, territoire_niveau, territoire_code,
    cast(cog_annee as {{ dbt.type_int() }}) as cog_annee,
    date_debut, date_fin, statut,
    cast(extract(year from date_debut) as {{ dbt.type_int() }}) as cohorte_annee,
    premiere_apparition, derniere_apparition,
    cast(nb_etats as {{ dbt.type_int() }}) as nb_etats,
    projet_id, projet_nom, source_id, millesime, snapshot_sha256
from depuis_les_listes
union all
select
    intervention_id, territoire_niveau, territoire_code,
    cast(cog_annee as {{ dbt.type_int() }}),
    date_debut, date_fin, case when date_fin is null then 'actif' else 'sorti' end,
    cast(extract(year from date_debut) as {{ dbt.type_int() }}),
    coalesce(date_debut, publie_le), coalesce(date_debut, publie_le), cast(1 as {{ dbt.type_int() }}),
    territoire_code, perimetre_nom, 'catalogue__perimetres', millesime, snapshot_sha256
from depuis_le_catalogue

-- Who was treated where, from when to when. Entries and departures are read from the successive states of the lists:
-- a territory that a later state of the same list no longer holds has left by that date (no survivor bias, R-REV).
-- Signed conventions speak where no list does.
with liste as (
    select * from {{ ref('int_liste') }} where territoire_code is not null and actuelle
),

etats as (
    select intervention_id, liste_id, etat_date, max(case when date_debut is not null then 1 else 0 end) as est_date
    from liste
    group by intervention_id, liste_id, etat_date
),

-- The latest state that bears dates is the reference for them; older ones only speak for those who left before it.
etat_date_reference as (
    select intervention_id, liste_id, max(etat_date) as etat_date from etats where est_date = 1 group by intervention_id, liste_id
),

presence as (
    select
        intervention_id, liste_id, territoire_niveau, territoire_code, max(cog_annee) as cog_annee,
        min(etat_date) as premiere_apparition,
        max(etat_date) as derniere_apparition,
        count(distinct etat_date) as nb_etats,
        min(date_debut) as date_min
    from liste
    group by intervention_id, liste_id, territoire_niveau, territoire_code
),

date_de_reference as (
    select
        liste.intervention_id, liste.liste_id, liste.territoire_niveau, liste.territoire_code,
        max(case when liste.etat_date = reference.etat_date then 1 else 0 end) as dans_reference,
        min(case when liste.etat_date = reference.etat_date then liste.date_debut end) as date_reference
    from liste
    inner join etat_date_reference as reference
        on reference.intervention_id = liste.intervention_id and reference.liste_id = liste.liste_id
    group by liste.intervention_id, liste.liste_id, liste.territoire_niveau, liste.territoire_code
),

-- A state that holds no territory of a level (a map without départements) says nothing of those of that level.
etats_du_niveau as (
    select distinct intervention_id, liste_id, territoire_niveau, etat_date from liste
),

suite as (
    select
        presence.intervention_id, presence.liste_id, presence.territoire_niveau, presence.territoire_code,
        min(etats.etat_date) as date_fin
    from presence
    inner join etats_du_niveau as etats
        on etats.intervention_id = presence.intervention_id and etats.liste_id = presence.liste_id
        and etats.territoire_niveau = presence.territoire_niveau
        and etats.etat_date > presence.derniere_apparition
    group by presence.intervention_id, presence.liste_id, presence.territoire_niveau, presence.territoire_code
),

par_liste as (
    select
        presence.*,
        case
            -- A perimeter that a new generation renews began with its first one.
            when presence.territoire_niveau = 'perimetre' then presence.date_min
            when date_de_reference.dans_reference = 1 then date_de_reference.date_reference
            else presence.date_min
        end as date_debut,
        suite.date_fin
    from presence
    left join date_de_reference
        on date_de_reference.intervention_id = presence.intervention_id
        and date_de_reference.liste_id = presence.liste_id
        and date_de_reference.territoire_niveau = presence.territoire_niveau
        and date_de_reference.territoire_code = presence.territoire_code
    left join suite
        on suite.intervention_id = presence.intervention_id
        and suite.liste_id = presence.liste_id
        and suite.territoire_niveau = presence.territoire_niveau
        and suite.territoire_code = presence.territoire_code
),

-- A territory on several lists of one intervention is treated as long as one of them holds it.
reunies as (
    select
        intervention_id, territoire_niveau, territoire_code, max(cog_annee) as cog_annee,
        min(date_debut) as date_debut,
        case when count(date_fin) = count(*) then max(date_fin) end as date_fin,
        min(premiere_apparition) as premiere_apparition,
        max(derniere_apparition) as derniere_apparition,
        sum(nb_etats) as nb_etats
    from par_liste
    group by intervention_id, territoire_niveau, territoire_code
),

dernier as (
    select
        liste.intervention_id, liste.territoire_niveau, liste.territoire_code, liste.projet_id, liste.projet_nom,
        liste.source_id, liste.millesime, liste.snapshot_sha256,
        row_number() over (
            partition by liste.intervention_id, liste.territoire_niveau, liste.territoire_code
            order by
                case when par_liste.date_fin is null then 0 else 1 end, liste.etat_date desc, liste.source_id,
                liste.projet_id nulls last, liste.ligne
        ) as rang
    from liste
    inner join par_liste
        on par_liste.intervention_id = liste.intervention_id
        and par_liste.liste_id = liste.liste_id
        and par_liste.territoire_niveau = liste.territoire_niveau
        and par_liste.territoire_code = liste.territoire_code
),

depuis_les_listes as (
    select
        reunies.intervention_id,
        reunies.territoire_niveau,
        reunies.territoire_code,
        reunies.cog_annee,
        reunies.date_debut,
        reunies.date_fin,
        case when reunies.date_fin is null then 'actif' else 'sorti' end as statut,
        reunies.premiere_apparition,
        reunies.derniere_apparition,
        reunies.nb_etats,
        dernier.projet_id,
        dernier.projet_nom,
        dernier.source_id,
        dernier.millesime,
        dernier.snapshot_sha256
    from reunies
    inner join dernier
        on dernier.intervention_id = reunies.intervention_id
        and dernier.territoire_niveau = reunies.territoire_niveau
        and dernier.territoire_code = reunies.territoire_code
        and dernier.rang = 1
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
    projet_id, projet_nom, source_id, millesime, snapshot_sha256, cast(null as {{ dbt.type_string() }}) as mention
from depuis_les_listes
union all
select
    intervention_id, territoire_niveau, territoire_code,
    cast(cog_annee as {{ dbt.type_int() }}),
    date_debut, date_fin, case when date_fin is null then 'actif' else 'sorti' end,
    cast(extract(year from date_debut) as {{ dbt.type_int() }}),
    coalesce(date_debut, publie_le), coalesce(date_debut, publie_le), cast(1 as {{ dbt.type_int() }}),
    territoire_code, perimetre_nom, 'catalogue__perimetres', millesime, snapshot_sha256, null
from depuis_le_catalogue
union all
select
    convention.intervention_id, convention.territoire_niveau, convention.territoire_code,
    cast(convention.cog_annee as {{ dbt.type_int() }}),
    convention.date_debut, convention.date_fin, convention.statut,
    cast(extract(year from convention.date_debut) as {{ dbt.type_int() }}),
    convention.date_debut, convention.derniere_signature, cast(convention.conventions as {{ dbt.type_int() }}),
    convention.convention_id, null, 'interne__convention', convention.millesime, convention.snapshot_sha256, convention.mention
from {{ ref('int_traitement_convention') }} as convention
left join (
    select intervention_id, territoire_niveau, territoire_code from depuis_les_listes
    union
    select intervention_id, territoire_niveau, territoire_code from depuis_le_catalogue
) as connu
    on connu.intervention_id = convention.intervention_id and connu.territoire_niveau = convention.territoire_niveau
    and connu.territoire_code = convention.territoire_code
where connu.intervention_id is null

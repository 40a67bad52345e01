-- The units of each plan, each with its part in the comparison: traitée, témoin or écartée with the reason. Neighbours (same
-- EPCI as a treated commune; no source in hand gives the centre of a commune, hence no distance) form the ring that the main
-- run leaves out (R-DEB). Other programmes of the same level are told apart, twice (R-SUP): est_chevauchee, for a treated unit,
-- is one that began within two years of its own start, an effect that its estimate holds too; est_mixte, for any unit, is one
-- that began during the panel or in the two years before it, whose effect would pass for what happens without the programme.
with plans as (
    select * from {{ ref('int_estimation') }}
),

places as (
    select
        covariable.*,
        plans.unite, plans.intervention_id, plans.reference, plans.population_min, plans.population_max, plans.part_traitee_min,
        plans.premiere_annee, plans.derniere_annee,
        traitee.part_traitee, traitee.date_debut, traitee.date_fin, traitee.une_sans_date,
        cast(extract(year from traitee.date_debut) as {{ dbt.type_int() }}) + plans.decalage as cohorte
    from {{ ref('int_covariable') }} as covariable
    inner join plans on plans.estimation_id = covariable.estimation_id
    left join {{ ref('int_unite_traitee') }} as traitee
        on traitee.estimation_id = covariable.estimation_id and traitee.unite_code = covariable.unite_code
),

jugees as (
    select
        places.*,
        case
            when part_traitee is not null and date_debut is null then 'traitée sans date de début connue'
            when part_traitee is not null and part_traitee < part_traitee_min then 'traitée en partie seulement'
            when population is null then 'population de référence inconnue'
            when population < coalesce(population_min, 0) then 'plus petite que les unités comparées'
            when population > population_max then 'plus grande que les unités comparées'
            when cohorte <= reference then 'traitée dès avant l''année de référence'
        end as motif_ecart
    from places
),

-- A commune is a neighbour since the first start in its EPCI, also of a treated commune that the plan sets aside.
anneau as (
    select estimation_id, epci_code, min(cohorte) as annee
    from jugees
    where part_traitee is not null and epci_code is not null and unite = 'commune'
    group by estimation_id, epci_code
),

-- Starts of the other programmes on the same commune, whatever became of them; for a département, of the other pacts that
-- reach some of its communes, dated or not.
autres as (
    select distinct intervention_id, territoire_niveau as unite, territoire_code as unite_code, cast(extract(year from date_debut) as {{ dbt.type_int() }}) as annee
    from {{ ref('fct_intervention_territoire') }}
    where territoire_niveau = 'commune' and date_debut is not null
    union
    select perimetre.intervention_id, 'departement', commune.departement_code, cast(null as {{ dbt.type_int() }})
    from {{ source('catalogue', 'perimetres') }} as perimetre
    inner join {{ ref('int_appartenance') }} as lien
        on lien.membre_niveau = 'commune' and lien.parent_niveau = 'perimetre' and lien.parent_code = perimetre.perimetre_code
    inner join {{ ref('dim_territoire') }} as commune
        on commune.territoire_niveau = 'commune' and commune.est_pivot and commune.territoire_code = lien.membre_code
    where perimetre._actuelle
),

autour as (
    select
        jugees.estimation_id, jugees.unite_code,
        max(case when coalesce(autres.annee, jugees.cohorte) between jugees.cohorte - 2 and jugees.cohorte + 2 then 1 else 0 end) as chevauchee,
        max(case when coalesce(autres.annee, jugees.premiere_annee) between jugees.premiere_annee - 2 and jugees.derniere_annee then 1 else 0 end) as mixte
    from jugees
    inner join autres
        on autres.unite = jugees.unite and autres.unite_code = jugees.unite_code and autres.intervention_id <> jugees.intervention_id
    group by jugees.estimation_id, jugees.unite_code
)

select
    jugees.estimation_id, jugees.unite_code, jugees.departement_code, jugees.region_code, jugees.epci_code,
    jugees.population, jugees.log_population, jugees.log_revenu, jugees.log_prix, jugees.aav_categorie,
    jugees.part_traitee, jugees.date_debut, jugees.date_fin,
    case when jugees.motif_ecart is null then jugees.cohorte end as cohorte,
    case
        when jugees.motif_ecart is not null then 'écartée'
        when jugees.part_traitee is not null then 'traitée'
        else 'témoin'
    end as place,
    jugees.motif_ecart,
    jugees.part_traitee is null and anneau.epci_code is not null as est_anneau,
    case when jugees.part_traitee is null then anneau.annee end as anneau_annee,
    -- Employment zones and EPCI have no list of programmes of their own: not known, which is not none.
    case when jugees.unite in ('commune', 'departement') then coalesce(autour.chevauchee, 0) = 1 end as est_chevauchee,
    coalesce(autour.mixte, 0) = 1 as est_mixte
from jugees
left join anneau on anneau.estimation_id = jugees.estimation_id and anneau.epci_code = jugees.epci_code
left join autour on autour.estimation_id = jugees.estimation_id and autour.unite_code = jugees.unite_code

-- Every additive internal figure, cell by cell, exact: the cells that a public release has to protect (R-SEC), and the
-- only place where records are summed. Not published. Money is added up by unit before units are compared: what dominates
-- a total is a financed action, not one of its commitments, even when two départements send it. A report on several
-- beneficiaries says how many they are, not what each of them has. All years together are one period for all territories,
-- and no period of its own while the register holds a single year.
{%- set flux = [] -%}
{%- for famille, faits in var('familles_internes').items() if faits.get('flux') %}{% do flux.append(famille) %}{% endfor %}
with fait as (
    select * from {{ ref('int_fait_interne') }}
),

demandee as (
    select * from {{ ref('int_mesure_demandee') }}
),

aux_niveaux as (
    {{ aux_niveaux_publies('fait', ['mesure_id', 'unite', 'annee', 'valeur', 'unites', 'est_demonstration']) }}
    union all
    select 'perimetre', perimetre_code, mesure_id, unite, annee, valeur, unites, est_demonstration
    from fait
    where perimetre_code is not null and mesure_id in (select mesure_id from demandee where au_perimetre = 1)
),

par_unite as (
    select
        mesure_id, territoire_niveau, territoire_code, annee, unite,
        {{ somme_exacte('valeur', 4) }} as valeur, case when unite is null then sum(unites) else max(unites) end as unites,
        max(est_demonstration) as est_demonstration
    from aux_niveaux
    group by mesure_id, territoire_niveau, territoire_code, annee, unite
),

par_annee as (
    select
        mesure_id, territoire_niveau, territoire_code, annee,
        {{ somme_exacte('valeur', 4) }} as valeur,
        sum(case when valeur <> 0 then unites else 0 end) as unites,
        max(case when unite is not null and unites <= 1 then valeur end) as dominante,
        max(est_demonstration) as est_demonstration
    from par_unite
    group by mesure_id, territoire_niveau, territoire_code, annee
),

bornes as (
    select min(annee) as premiere_annee, max(annee) as derniere_annee
    from fait
    where mesure_id = 'demandes'
),

cellules as (
    select
        mesure_id, territoire_niveau, territoire_code, cast(annee as {{ dbt.type_string() }}) as periode, annee, annee as premiere_annee,
        annee as derniere_annee, valeur, unites, dominante, est_demonstration
    from par_annee
    union all
    -- A request belongs to one year only, so its measures add up over years; a stock does not.
    select
        par_annee.mesure_id, par_annee.territoire_niveau, par_annee.territoire_code, 'toutes', null, bornes.premiere_annee,
        bornes.derniere_annee, {{ somme_exacte('par_annee.valeur', 4) }}, sum(par_annee.unites), max(par_annee.dominante),
        max(par_annee.est_demonstration)
    from par_annee
    cross join bornes
    where par_annee.mesure_id in ('{{ flux | join("', '") }}') and bornes.premiere_annee < bornes.derniere_annee
    group by par_annee.mesure_id, par_annee.territoire_niveau, par_annee.territoire_code, bornes.premiere_annee, bornes.derniere_annee
)

select
    cellules.mesure_id, demandee.registre, demandee.nature, demandee.unite_protegee, cellules.territoire_niveau, cellules.territoire_code,
    cellules.periode, cellules.annee, {{ premier_janvier('cellules.premiere_annee') }} as periode_debut,
    {{ fin_decembre('cellules.derniere_annee') }} as periode_fin, cellules.valeur,
    cast(case when demandee.unite_protegee = 'personne' and demandee.nature = 'effectif' then cellules.valeur else cellules.unites end
        as {{ dbt.type_bigint() }}) as contributeurs,
    case when demandee.nature = 'montant' and cellules.valeur > 0 then cellules.dominante / cellules.valeur end as part_dominante,
    case when cellules.est_demonstration = 1 then {{ demonstration() }} end as mention
from cellules
inner join demandee on demandee.mesure_id = cellules.mesure_id

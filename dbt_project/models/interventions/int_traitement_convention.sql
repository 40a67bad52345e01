-- Who is treated since when, read from signed conventions: one row per intervention and territory. A territory stays as
-- long as one of its conventions is in force; it has left on the last day of the last one. Nothing looks at today's date:
-- a planned end that lies after the day the register speaks of has not come.
with signees as (
    select *
    from {{ ref('int_convention') }}
    where intervention_id in (select intervention_id from {{ ref('dim_intervention') }}) and statut in ('signée', 'achevée', 'résiliée', 'fusionnée') and date_signature is not null
),

rangees as (
    select
        signees.*,
        row_number() over (
            partition by intervention_id, territoire_niveau, territoire_code
            order by case when est_en_cours then 0 else 1 end, date_signature desc, convention_id
        ) as rang
    from signees
),

reunies as (
    select
        intervention_id, territoire_niveau, territoire_code,
        min(date_signature) as date_debut,
        max(case when est_en_cours then 1 else 0 end) as en_cours,
        -- An early end may be unknown; a planned one that has not come is none.
        max(case when date_fin <= date_registre then date_fin end) as derniere_fin,
        max(date_signature) as derniere_signature,
        count(*) as conventions,
        max(mention) as mention
    from signees
    group by intervention_id, territoire_niveau, territoire_code
),

territoire as (
    select territoire_niveau, territoire_code, max(cog_annee) as cog_annee
    from {{ ref('dim_territoire') }}
    group by territoire_niveau, territoire_code
)

select
    reunies.intervention_id, reunies.territoire_niveau, reunies.territoire_code, territoire.cog_annee, reunies.date_debut,
    case when reunies.en_cours = 0 then reunies.derniere_fin end as date_fin,
    case when reunies.en_cours = 1 then 'actif' else 'sorti' end as statut,
    reunies.derniere_signature, reunies.conventions, rangees.convention_id, rangees.millesime, rangees.snapshot_sha256, reunies.mention
from reunies
inner join rangees
    on rangees.intervention_id = reunies.intervention_id and rangees.territoire_niveau = reunies.territoire_niveau
    and rangees.territoire_code = reunies.territoire_code and rangees.rang = 1
inner join territoire
    on territoire.territoire_niveau = reunies.territoire_niveau and territoire.territoire_code = reunies.territoire_code

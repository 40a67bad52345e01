-- Communes that each intervention reaches, once each: an EPCI, a département or a perimeter is brought down to its communes.
-- A commune reached twice (two generations, two lists) is treated since the first time (R-GEO 5).
with traitements as (
    select intervention_id, territoire_niveau, territoire_code, date_debut, date_fin, mention
    from {{ ref('fct_intervention_territoire') }}
),

communes as (
    select intervention_id, territoire_code as commune_code, date_debut, date_fin, mention
    from traitements
    where territoire_niveau = 'commune'
    union all
    select traitements.intervention_id, lien.membre_code, traitements.date_debut, traitements.date_fin, traitements.mention
    from traitements
    inner join {{ ref('int_appartenance') }} as lien
        on lien.membre_niveau = 'commune'
        and lien.parent_niveau = traitements.territoire_niveau and lien.parent_code = traitements.territoire_code
    where traitements.territoire_niveau not in ('commune', 'national')
)

select
    intervention_id, commune_code, min(date_debut) as date_debut,
    -- Still there as long as one of its treatments goes on.
    case when count(*) = count(date_fin) then max(date_fin) end as date_fin,
    max(case when date_debut is null then 1 else 0 end) as une_sans_date,
    max(mention) as mention
from communes
group by intervention_id, commune_code

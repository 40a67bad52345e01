-- Named perimeters (a pact, a Territoire d'industrie) and their members, dated: who belonged from when to when.
with liste as (
    select
        projet_id as perimetre_code,
        projet_nom as perimetre_nom,
        source_id, code_origine, etat_date,
        min(etat_date) over (partition by source_id, projet_id, code_origine) as vu_du,
        max(etat_date) over (partition by source_id, projet_id, code_origine) as vu_au,
        row_number() over (partition by source_id, projet_id, code_origine order by etat_date desc, ligne) as rang
    from {{ source('arrivee', 'listes') }}
    where niveau_declare = 'perimetre' and actuelle
),

-- First state of the same list after the last one that holds the member: the member had left by then.
suite as (
    select liste.source_id, liste.perimetre_code, liste.code_origine, min(etats.etat_date) as sorti_le
    from liste
    inner join (select distinct source_id, etat_date from {{ source('arrivee', 'listes') }} where actuelle) as etats
        on etats.source_id = liste.source_id and etats.etat_date > liste.vu_au
    where liste.rang = 1
    group by liste.source_id, liste.perimetre_code, liste.code_origine
)

select
    liste.perimetre_code,
    liste.perimetre_nom,
    epci.niveau as membre_niveau,
    coalesce(epci.code, liste.code_origine) as membre_code,
    liste.vu_du as valide_du,
    suite.sorti_le as valide_au,
    liste.source_id
from liste
left join (select distinct 'epci' as niveau, epci_code as code from {{ ref('stg_etalab__epci') }}) as epci
    on epci.code = liste.code_origine
left join suite
    on suite.source_id = liste.source_id and suite.perimetre_code = liste.perimetre_code
    and suite.code_origine = liste.code_origine
where liste.rang = 1

union all
select
    perimetre_code, perimetre_nom, membre_niveau, membre_code, date_debut, date_fin, 'catalogue__perimetres'
from {{ source('catalogue', 'perimetres') }}
where _actuelle

-- Groupings that a list designates by a SIREN of which no table in hand gives the members.
union all
select distinct
    territoire_code, 'Groupement absent des EPCI en main (SIREN ' || territoire_code || ')',
    cast(null as {{ dbt.type_string() }}), cast(null as {{ dbt.type_string() }}), cast(null as date), cast(null as date), source_id
from {{ ref('int_liste') }}
where territoire_niveau = 'perimetre' and territoire_code = code_origine and actuelle

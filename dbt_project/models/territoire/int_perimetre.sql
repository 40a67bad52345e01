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
    where niveau_declare = 'perimetre' and projet_id is not null and actuelle
),

-- First state of the same list after the last one that holds the member: the member had left by then.
suite as (
    select liste.source_id, liste.perimetre_code, liste.code_origine, min(etats.etat_date) as sorti_le
    from liste
    inner join (select distinct source_id, etat_date from {{ source('arrivee', 'listes') }} where actuelle) as etats
        on etats.source_id = liste.source_id and etats.etat_date > liste.vu_au
    where liste.rang = 1
    group by liste.source_id, liste.perimetre_code, liste.code_origine
),

-- A member is an EPCI, or a commune named by any code it ever bore: two old codes may be one commune of today.
membre as (
    select
        liste.perimetre_code,
        liste.perimetre_nom,
        case when epci.code is not null then 'epci' when commune.commune_code is not null then 'commune' end as membre_niveau,
        coalesce(epci.code, commune.commune_code, liste.code_origine) as membre_code,
        liste.vu_du,
        suite.sorti_le,
        liste.source_id
    from liste
    left join (select distinct epci_code as code from {{ ref('stg_etalab__epci') }}) as epci
        on epci.code = liste.code_origine
    left join {{ ref('int_code_commune') }} as commune on commune.code_origine = liste.code_origine
    left join suite
        on suite.source_id = liste.source_id and suite.perimetre_code = liste.perimetre_code
        and suite.code_origine = liste.code_origine
    where liste.rang = 1
),

-- Établissements publics territoriaux of the Grand Paris: lists name them by their SIREN, BANATIC alone gives their communes.
ept as (
    select distinct banatic.ept_code, banatic.ept_nom, coalesce(codes.commune_code, banatic.commune_code) as commune_code
    from {{ source('dgcl', 'banatic') }} as banatic
    left join {{ ref('int_code_commune') }} as codes on codes.code_origine = banatic.commune_code
    where banatic._actuelle and banatic.ept_code is not null
)

select
    perimetre_code, max(perimetre_nom) as perimetre_nom, membre_niveau, membre_code, min(vu_du) as valide_du,
    case when count(*) = count(sorti_le) then max(sorti_le) end as valide_au, source_id
from membre
group by perimetre_code, membre_niveau, membre_code, source_id

union all
select
    perimetre_code, perimetre_nom, membre_niveau, membre_code, date_debut, date_fin, 'catalogue__perimetres'
from {{ source('catalogue', 'perimetres') }}
where _actuelle

-- Groupings that a list designates by their own SIREN: with members for those that BANATIC knows, without for the others.
union all
select distinct
    groupement.territoire_code,
    coalesce(ept.ept_nom, 'Groupement absent des EPCI en main (SIREN ' || groupement.territoire_code || ')'),
    case when ept.commune_code is not null then 'commune' end, ept.commune_code,
    cast(null as date), cast(null as date), case when ept.commune_code is not null then 'dgcl__banatic' else groupement.source_id end
from {{ ref('int_liste') }} as groupement
left join ept on ept.ept_code = groupement.territoire_code
where groupement.territoire_niveau = 'perimetre' and groupement.territoire_code = groupement.code_origine and groupement.actuelle

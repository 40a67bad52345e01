-- Last value of each territory, and what it did since the eve of the interventions (the last period of the reference year
-- at the latest, else the first of the same series). A numbered table, which int_place_comparable joins to itself. Internal records have their own marts: a comparison would tell what secrecy hides.
with observations as (
    select indicateur_id, territoire_niveau, territoire_code, periode_debut, periode_fin, valeur, serie, source_id, mention
    from {{ ref('fct_observation') }}
    where est_derniere_version and valeur is not null and territoire_niveau in ('commune', 'epci', 'departement')
        and substring(source_id, 1, 9) <> 'interne__'
),

-- The last period that most territories have: a few early values would leave each territory without comparison.
periodes as (
    select
        indicateur_id, territoire_niveau, periode_debut, periode_fin, serie, count(*) as territoires,
        max(count(*)) over (partition by indicateur_id, territoire_niveau) as maximum
    from observations
    group by indicateur_id, territoire_niveau, periode_debut, periode_fin, serie
),

dernieres as (
    select
        indicateur_id, territoire_niveau, periode_debut, periode_fin, serie,
        row_number() over (partition by indicateur_id, territoire_niveau order by periode_debut desc, periode_fin desc) as rang
    from periodes
    where territoires >= 0.5 * maximum
),

premieres as (
    select
        periodes.indicateur_id, periodes.territoire_niveau, periodes.periode_debut, periodes.periode_fin,
        row_number() over (
            partition by periodes.indicateur_id, periodes.territoire_niveau
            order by
                case when extract(year from periodes.periode_fin) <= {{ var('annee_reference') }} then 0 else 1 end,
                case when extract(year from periodes.periode_fin) <= {{ var('annee_reference') }} then periodes.periode_fin end desc,
                periodes.periode_debut, periodes.periode_fin
        ) as rang
    from periodes
    inner join dernieres
        on dernieres.indicateur_id = periodes.indicateur_id and dernieres.territoire_niveau = periodes.territoire_niveau
        and dernieres.rang = 1 and dernieres.serie = periodes.serie
    where periodes.territoires >= 0.5 * periodes.maximum
),

actuelles as (
    select observations.*
    from observations
    inner join dernieres
        on dernieres.indicateur_id = observations.indicateur_id and dernieres.territoire_niveau = observations.territoire_niveau
        and dernieres.periode_debut = observations.periode_debut and dernieres.periode_fin = observations.periode_fin
        and dernieres.rang = 1
),

initiales as (
    select observations.*
    from observations
    inner join premieres
        on premieres.indicateur_id = observations.indicateur_id and premieres.territoire_niveau = observations.territoire_niveau
        and premieres.periode_debut = observations.periode_debut and premieres.periode_fin = observations.periode_fin
        and premieres.rang = 1
)

select
    actuelles.*,
    row_number() over (order by actuelles.indicateur_id, actuelles.territoire_niveau, actuelles.territoire_code) as numero,
    initiales.valeur as valeur_initiale, initiales.periode_debut as periode_initiale,
    case when initiales.periode_debut < actuelles.periode_debut then actuelles.valeur - initiales.valeur end as evolution
from actuelles
left join initiales
    on initiales.indicateur_id = actuelles.indicateur_id and initiales.territoire_niveau = actuelles.territoire_niveau
    and initiales.territoire_code = actuelles.territoire_code

-- The file that an internal figure leads back to: of all that a territory rests on, the last by its fingerprint. One
-- file stands for a whole register and territory, so that both terms of a ratio come from the same one; what the whole
-- register holds says from when its figures are known.
with lignes as (
    {% for nom in cles_des_registres() -%}
    select
        '{{ nom }}' as registre, departement_code, max(_snapshot_sha256) as snapshot_sha256, min(_millesime) as premier_millesime,
        max(_millesime) as dernier_millesime, max(_connue_le) as connue_le
    from {{ ref('stg_interne__' ~ nom) }}
    group by departement_code
    {% if not loop.last %}union all{% endif %}
    {% endfor %}
),

registre as (
    select
        registre, max(snapshot_sha256) as snapshot_sha256, max(connue_le) as connue_le,
        case when min(premier_millesime) = max(dernier_millesime) then min(premier_millesime) else 'registre' end as millesime
    from lignes
    group by registre
),

situees as (
    select lignes.registre, lignes.snapshot_sha256, lignes.departement_code, departement.region_code
    from lignes
    left join {{ ref('int_departement') }} as departement on departement.departement_code = lignes.departement_code
),

territoires as (
    {{ aux_niveaux_publies('situees', ['registre', 'snapshot_sha256']) }}
    union all
    -- A département may be told of by others (its communes under a neighbour's convention), a perimeter always is.
    select cellule.territoire_niveau, cellule.territoire_code, cellule.registre, registre.snapshot_sha256
    from (select distinct territoire_niveau, territoire_code, registre from {{ ref('int_cellule') }}) as cellule
    inner join registre on registre.registre = cellule.registre
    left join situees on situees.registre = cellule.registre and situees.departement_code = cellule.territoire_code
    where cellule.territoire_niveau = 'perimetre' or (cellule.territoire_niveau = 'departement' and situees.registre is null)
)

select
    territoires.registre, territoires.territoire_niveau, territoires.territoire_code, max(territoires.snapshot_sha256) as snapshot_sha256,
    registre.millesime, registre.connue_le
from territoires
inner join registre on registre.registre = territoires.registre
group by territoires.registre, territoires.territoire_niveau, territoires.territoire_code, registre.millesime, registre.connue_le

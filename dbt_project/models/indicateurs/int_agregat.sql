-- Sums at every enclosing level that the indicator allows; a rate is recomputed from its sums, never averaged (R-AGR).
-- An aggregate whose parts cover less than the declared share of the population is refused, with the share (R-MAN). Of a
-- register, the parts are the départements that keep it: one that keeps it has nothing to add where it says nothing.
with composante as (
    select composante.*, indicateur.calcul_niveaux
    from {{ ref('int_composante_pivot') }} as composante
    inner join {{ ref('int_indicateur') }} as indicateur on indicateur.indicateur_id = composante.indicateur_id
    where composante.calcul_type <> 'valeur'
),

total as (
    select membre_niveau, parent_niveau, parent_code, sum(population) as population
    from {{ ref('int_appartenance') }}
    group by membre_niveau, parent_niveau, parent_code
),

registre_tenu as (
    select declarant.registre, lien.parent_niveau, lien.parent_code, sum(lien.population) as population
    from {{ ref('int_declarant') }} as declarant
    inner join {{ ref('int_appartenance') }} as lien
        on lien.membre_niveau = 'departement' and lien.membre_code = declarant.departement_code
    group by declarant.registre, lien.parent_niveau, lien.parent_code
),

sommes as (
    select
        composante.indicateur_id, composante.calcul_type, composante.exhaustif, lien.membre_niveau, lien.parent_niveau, lien.parent_code,
        composante.periode_debut, composante.periode_fin, composante.source_id, composante.millesime, composante.connue_le,
        max(composante.snapshot_sha256) as snapshot_sha256,
        -- The shares of a split commune are rounded one by one: their sum is brought back to the whole they come from.
        round({{ somme_exacte('composante.numerateur') }}, 8) as numerateur,
        round({{ somme_exacte('composante.denominateur') }}, 8) as denominateur,
        sum(case when composante.numerateur is not null then lien.population else 0 end) as population_couverte,
        max(case when composante.statut_valeur = 'estimé' then 1 else 0 end) as un_estime,
        max(case when composante.statut_valeur = 'provisoire' then 1 else 0 end) as un_provisoire,
        max(composante.mention) as mention
    from composante
    inner join {{ ref('int_appartenance') }} as lien
        on lien.membre_niveau = composante.territoire_niveau and lien.membre_code = composante.territoire_code
    where composante.calcul_niveaux is null
       or ' ; ' || composante.calcul_niveaux || ' ; ' like '% ; ' || lien.parent_niveau || ' ; %'
    group by
        composante.indicateur_id, composante.calcul_type, composante.exhaustif, lien.membre_niveau, lien.parent_niveau, lien.parent_code,
        composante.periode_debut, composante.periode_fin, composante.source_id, composante.millesime, composante.connue_le
)

select
    sommes.*,
    case
        when sommes.exhaustif then cast(1.0 as {{ type_double() }})
        when indicateur.registre is not null and total.population > 0 then registre_tenu.population / total.population
        when total.population > 0 then sommes.population_couverte / total.population
    end as part_couverte
from sommes
inner join total
    on total.membre_niveau = sommes.membre_niveau
    and total.parent_niveau = sommes.parent_niveau
    and total.parent_code = sommes.parent_code
inner join {{ ref('int_indicateur') }} as indicateur on indicateur.indicateur_id = sommes.indicateur_id
left join registre_tenu
    on registre_tenu.registre = indicateur.registre
    and registre_tenu.parent_niveau = sommes.parent_niveau
    and registre_tenu.parent_code = sommes.parent_code

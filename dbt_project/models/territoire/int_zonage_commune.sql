-- What typologies and zonings say of each commune of the pivot vintage: covariates for comparing like with like, and taxes
-- that weigh on the same dwellings as the programmes. Each speaks at its own vintage; the code leads to the commune of today.
{% set zonages = [
    ('observatoire', 'grille_densite', 'densite', 'densite'),
    ('observatoire', 'typologie_ruralites', 'ruralite', 'ruralite'),
    ('observatoire', 'centralites', 'centralite', 'centralite'),
    ('observatoire', 'massifs', 'massif', 'massif'),
    ('france_travail', 'bassins_emploi', 'bassin_code', 'bassin_emploi_code'),
    ('france_travail', 'bassins_emploi', 'bassin_nom', 'bassin_emploi_nom'),
    ('dgfip', 'taxe_logements_vacants', 'taxe', 'taxe_logements_vacants'),
    ('dgfip', 'zones_tendues', 'commune_code', 'zone_tendue'),
] %}
with longue as (
    {% for groupe, table, colonne, nom in zonages -%}
    select codes.commune_code, '{{ nom }}' as zonage, zonages.{{ colonne }} as valeur,
        -- A merged commune takes the value of the commune whose code it keeps.
        case when zonages.commune_code = codes.commune_code then 0 else 1 end as priorite, zonages.commune_code as code_origine
    from {{ source(groupe, table) }} as zonages
    inner join {{ ref('int_code_commune') }} as codes on codes.code_origine = zonages.commune_code
    where zonages._actuelle and zonages.{{ colonne }} is not null
    {%- if not loop.last %}
    union all
    {% endif %}
    {%- endfor %}
),

rangee as (
    select commune_code, zonage, valeur,
        row_number() over (partition by commune_code, zonage order by priorite, code_origine) as rang
    from longue
)

select
    commune_code,
    {% for _, _, _, nom in zonages if nom != 'zone_tendue' -%}
    max(case when zonage = '{{ nom }}' then valeur end) as {{ nom }},
    {% endfor -%}
    max(case when zonage = 'zone_tendue' then 1 else 0 end) = 1 as zone_tendue
from rangee
where rang = 1
group by commune_code

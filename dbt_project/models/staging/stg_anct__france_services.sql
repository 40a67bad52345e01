-- Sites of France services in every version known, antennas told apart: an antenna is not a structure (SOURCES: 124 of
-- them in 2024-08).
select
    sites.site_id, sites.nom, codes.commune_code, sites.commune_code as commune_code_publie, sites.departement_code,
    sites.type_site, sites.format_site, sites.date_labellisation,
    lower(coalesce(sites.type_site, '')) like 'antenne%' as est_antenne,
    sites._millesime, sites._publie_le, sites._snapshot_sha256, sites._connue_le, sites._actuelle, sites._ligne
from {{ source('anct', 'france_services') }} as sites
left join {{ ref('int_code_commune') }} as codes on codes.code_origine = sites.commune_code

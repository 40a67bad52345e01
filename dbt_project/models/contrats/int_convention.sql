-- Conventions with the region of their sender and the day that the register speaks of: the last signature, or the last
-- end that had come when the file was received. Planned ends lie after it.
with convention as (
    select * from {{ ref('stg_interne__convention') }}
),

dernier_jour as (
    select max(jour) as date_registre
    from (
        select max(date_signature) as jour from convention
        union all
        select max(date_fin) from convention where date_fin <= _connue_le
    ) as jours
)

select
    convention.convention_id, convention.intervention_id, convention.departement_code, departement.region_code,
    convention.territoire_niveau, coalesce(commune.commune_code, convention.territoire_code) as territoire_code,
    convention.date_signature, convention.date_fin, convention.statut, convention.repris_par, convention.signataires_nb,
    convention.chef_de_projet_en_poste, dernier_jour.date_registre,
    -- One that ended without a date was in force until a day that nobody wrote down: it is not counted as active.
    case
        when convention.statut = 'en préparation' or convention.date_signature is null then null
        when convention.statut = 'signée' or convention.date_fin is not null then convention.date_signature
    end as active_du,
    convention.date_fin as active_au,
    coalesce(convention.statut = 'signée' and (convention.date_fin is null or convention.date_fin > dernier_jour.date_registre), false) as est_en_cours,
    convention._millesime as millesime, convention._snapshot_sha256 as snapshot_sha256, convention._connue_le as connue_le,
    convention._ligne as ligne, convention.mention
from convention
cross join dernier_jour
left join {{ ref('int_departement') }} as departement on departement.departement_code = convention.departement_code
left join {{ ref('int_code_commune') }} as commune
    on commune.code_origine = convention.territoire_code and convention.territoire_niveau = 'commune'

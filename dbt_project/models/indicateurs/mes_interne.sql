-- Measures drawn from the records of the délégués territoriaux, by year, at the level of the département that sends them
-- (and of the perimeter, for pacts): nothing finer ever becomes an observation. What does not add up (a median, a mean)
-- is computed anew at every published level. A year that was not over when its file was received is provisional.
with sommes as (
    select mesure_id, registre, nature, territoire_niveau, territoire_code, annee, valeur, mention
    from {{ ref('int_cellule') }}
    where periode <> 'toutes' and territoire_niveau in ('departement', 'perimetre')
),

delais as (
    select
        delai.mesure_id, demandee.registre, 'mediane' as nature, delai.territoire_niveau, delai.territoire_code,
        delai.annee, delai.mediane as valeur, delai.mention
    from {{ ref('int_delai') }} as delai
    inner join {{ ref('int_mesure_demandee') }} as demandee on demandee.mesure_id = delai.mesure_id
    where delai.annee is not null
),

reportees as (
    select action.*, demandee.mesure_id, demandee.registre, demandee.calcul_type
    from {{ ref('int_action') }} as action
    inner join {{ ref('int_mesure_demandee') }} as demandee
        on demandee.mesure_id = {{ dbt.concat(["'action_quantite__'", 'action.indicateur_id']) }}
    where action.quantite is not null
),

moyennes as (
    select
        mesure_id, registre, 'moyenne' as nature, 'departement' as territoire_niveau, departement_code as territoire_code, annee,
        {{ somme_exacte('quantite * quantite_reference', 6) }} / {{ somme_exacte('quantite_reference', 6) }} as valeur, max(mention) as mention
    from reportees
    where calcul_type = 'moyenne_ponderee' and quantite_reference > 0
    group by mesure_id, registre, departement_code, annee
    union all
    select
        {{ dbt.concat(["'formation_gain__'", 'intervention_id']) }}, 'formation', 'moyenne', 'departement', departement_code,
        {{ annee('date_debut') }},
        {{ somme_exacte('(note_apres - note_avant) * participants', 6) }} / {{ somme_exacte('participants', 6) }}, max(mention)
    from {{ ref('stg_interne__formation') }}
    where note_avant is not null and note_apres is not null and participants > 0
    group by intervention_id, departement_code, {{ annee('date_debut') }}
),

valeurs as (
    select * from reportees where calcul_type = 'valeur'
),

rangees as (
    select
        mesure_id, registre, territoire_niveau, territoire_code, annee, quantite, mention,
        row_number() over (partition by mesure_id, territoire_niveau, territoire_code, annee order by quantite) as rang,
        count(*) over (partition by mesure_id, territoire_niveau, territoire_code, annee) as nombre
    from (
        {{ aux_niveaux_publies('valeurs', ['mesure_id', 'registre', 'annee', 'quantite', 'mention']) }}
    ) as aux_niveaux
),

medianes as (
    select
        mesure_id, registre, 'mediane' as nature, territoire_niveau, territoire_code, annee,
        avg(case when 2 * rang between nombre and nombre + 2 then quantite end) as valeur, max(mention) as mention
    from rangees
    group by mesure_id, registre, territoire_niveau, territoire_code, annee
),

toutes as (
    select * from sommes
    union all
    select * from delais where valeur is not null
    union all
    select * from moyennes where mesure_id in (select mesure_id from {{ ref('int_mesure_demandee') }})
    union all
    select * from medianes
)

select
    toutes.mesure_id, toutes.nature, toutes.territoire_niveau, toutes.territoire_code, {{ var('cog_pivot') }} as cog_annee,
    {{ premier_janvier('toutes.annee') }} as periode_debut, {{ fin_decembre('toutes.annee') }} as periode_fin,
    cast(toutes.valeur as {{ type_double() }}) as valeur,
    case when {{ fin_decembre('toutes.annee') }} > fichier.connue_le then 'provisoire' else 'observé' end as statut_valeur,
    {{ dbt.concat(["'interne__'", 'toutes.registre']) }} as source_id, fichier.millesime, fichier.snapshot_sha256, fichier.connue_le,
    -- No line: the value is a total of the file.
    cast(0 as {{ dbt.type_bigint() }}) as ligne, true as actuelle, toutes.mention
from toutes
inner join {{ ref('int_fichier_registre') }} as fichier
    on fichier.registre = toutes.registre and fichier.territoire_niveau = toutes.territoire_niveau
    and fichier.territoire_code = toutes.territoire_code

-- Pacts and contracts, one row per convention: actions done, money paid over committed, criteria met. Actions are those of
-- the last yearly report; the last evaluation of each criterion stands. A pact is a form of the catalogue, not a list of
-- names written here.
with contrat as (
    select convention.*, intervention.intervention_nom, intervention.forme
    from {{ ref('int_convention') }} as convention
    inner join {{ ref('dim_intervention') }} as intervention on intervention.intervention_id = convention.intervention_id
    where intervention.forme in ('pacte_territorial', 'contrat')
),

rapport as (
    select convention_id, max(annee) as annee from {{ ref('int_action') }} where est_action and convention_id is not null group by convention_id
),

actions as (
    select
        action.convention_id, rapport.annee,
        count(*) as inscrites,
        sum(case when action.statut = 'achevée' then 1 else 0 end) as achevees,
        sum(case when action.statut = 'abandonnée' then 1 else 0 end) as abandonnees,
        max(action.mention) as mention
    from {{ ref('int_action') }} as action
    inner join rapport on rapport.convention_id = action.convention_id and rapport.annee = action.annee
    where action.est_action
    group by action.convention_id, rapport.annee
),

argent as (
    select
        convention_id,
        {{ somme_exacte('montant_engage_eur', 2) }} as engage,
        {{ somme_exacte('case when montant_paye_eur is not null then montant_engage_eur end', 2) }} as engage_suivi,
        {{ somme_exacte('montant_paye_eur', 2) }} as paye,
        {{ somme_exacte('case when est_etat then montant_engage_eur else 0 end', 2) }} as etat,
        sum(case when montant_paye_eur is null then 1 else 0 end) as sans_paiement,
        max(mention) as mention
    from {{ ref('int_engagement') }}
    group by convention_id
),

critere as (
    select
        criteres.*,
        row_number() over (
            partition by convention_id, critere_famille, critere order by date_evaluation desc, grille_version desc
        ) as rang_version
    from {{ ref('stg_interne__critere') }} as criteres
),

{%- set familles = {'ecologique': 'écologique', 'democratique': 'démocratique', 'relance': 'relance'} %}

criteres as (
    select
        convention_id,
        {%- for nom, famille in familles.items() %}
        sum(case when critere_famille = '{{ famille }}' then 1 else 0 end) as {{ nom }}_evalues,
        sum(case when critere_famille = '{{ famille }}' and respecte then 1 else 0 end) as {{ nom }}_respectes,
        {{ somme_exacte("case when critere_famille = '" ~ famille ~ "' then montant_favorable_eur end", 2) }} as {{ nom }}_favorable,
        {%- endfor %}
        max(mention) as mention
    from critere
    where rang_version = 1
    group by convention_id
)

select
    contrat.convention_id, contrat.intervention_id, contrat.forme, contrat.departement_code, contrat.territoire_niveau, contrat.territoire_code,
    contrat.statut, contrat.date_signature, contrat.date_fin, contrat.repris_par, contrat.est_en_cours,
    cast(actions.annee as {{ dbt.type_int() }}) as actions_annee,
    cast(actions.inscrites as {{ dbt.type_bigint() }}) as actions_inscrites,
    cast(actions.achevees as {{ dbt.type_bigint() }}) as actions_achevees,
    cast(actions.abandonnees as {{ dbt.type_bigint() }}) as actions_abandonnees,
    cast(100.0 * actions.achevees / nullif(actions.inscrites, 0) as {{ type_double() }}) as part_actions_achevees,
    argent.engage as montant_engage_eur,
    argent.paye as montant_paye_eur,
    cast(100.0 * argent.paye / nullif(argent.engage_suivi, 0) as {{ type_double() }}) as taux_paiement,
    cast(argent.sans_paiement as {{ dbt.type_bigint() }}) as engagements_sans_paiement_connu,
    argent.etat as montant_etat_eur,
    cast(argent.engage / nullif(argent.etat, 0) as {{ type_double() }}) as effet_levier,
    {%- for nom in familles %}
    cast(criteres.{{ nom }}_respectes as {{ dbt.type_bigint() }}) as criteres_{{ nom }}_respectes,
    cast(criteres.{{ nom }}_evalues as {{ dbt.type_bigint() }}) as criteres_{{ nom }}_evalues,
    criteres.{{ nom }}_favorable as montant_favorable_{{ nom }}_eur,
    {%- endfor %}
    case
        when actions.convention_id is null and argent.convention_id is null then 'aucune action ni aucun engagement au registre'
        when actions.convention_id is null then 'aucune action au registre'
        when argent.convention_id is null then 'aucun engagement au registre'
    end as motif,
    'interne__convention' as source_id, contrat.millesime, contrat.snapshot_sha256,
    coalesce(contrat.mention, actions.mention, argent.mention, criteres.mention) as mention
from contrat
left join actions on actions.convention_id = contrat.convention_id
left join argent on argent.convention_id = contrat.convention_id
left join criteres on criteres.convention_id = contrat.convention_id

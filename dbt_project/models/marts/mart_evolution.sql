-- What moved at national level since the eve of the interventions, told in the favourable direction that the catalogue
-- declares. A movement, never an effect: it says nothing of what brought it about. Internal records have their own marts:
-- a movement would tell what secrecy hides.
with valeurs as (
    select
        fait.indicateur_id, indicateur.sens_favorable, fait.serie, fait.periode_debut, fait.periode_fin, fait.valeur,
        fait.source_id, fait.connue_le, fait.mention,
        row_number() over (partition by fait.indicateur_id order by fait.periode_fin desc, fait.periode_debut desc) as rang
    from {{ ref('fct_observation') }} as fait
    inner join {{ ref('dim_indicateur') }} as indicateur on indicateur.indicateur_id = fait.indicateur_id
    where fait.territoire_niveau = 'national' and fait.est_derniere_version and fait.valeur is not null
        and substring(fait.source_id, 1, 9) <> 'interne__'
        and fait.statut_valeur in ('observé', 'provisoire') and indicateur.sens_favorable in ('hausse', 'baisse')
),

-- The last value known at the end of the reference year, else the first one after it; never across a break of the series.
departs as (
    select
        depart.indicateur_id, depart.periode_fin, depart.valeur,
        row_number() over (
            partition by depart.indicateur_id
            order by
                case when depart.periode_fin <= cast('{{ var('annee_reference') }}-12-31' as date) then 0 else 1 end,
                case when depart.periode_fin <= cast('{{ var('annee_reference') }}-12-31' as date) then depart.periode_fin end desc,
                depart.periode_fin
        ) as rang
    from valeurs as depart
    inner join valeurs as derniere
        on derniere.indicateur_id = depart.indicateur_id and derniere.rang = 1 and derniere.serie = depart.serie
        and depart.periode_fin < derniere.periode_debut
)

select
    valeurs.indicateur_id, valeurs.sens_favorable,
    departs.periode_fin as date_initiale, departs.valeur as valeur_initiale,
    valeurs.periode_fin as date_actuelle, valeurs.valeur as valeur_actuelle,
    cast(valeurs.valeur - departs.valeur as {{ type_double() }}) as evolution,
    case
        when valeurs.valeur = departs.valeur then 'stable'
        when (valeurs.valeur > departs.valeur) = (valeurs.sens_favorable = 'hausse') then 'amélioration'
        else 'dégradation'
    end as etat,
    valeurs.connue_le, valeurs.source_id, valeurs.mention
from valeurs
inner join departs on departs.indicateur_id = valeurs.indicateur_id and departs.rang = 1
where valeurs.rang = 1

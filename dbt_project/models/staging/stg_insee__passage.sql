-- Every code that a commune ever bore, and the commune of today: for lists whose vintage is unknown.
select ancien_code, commune_code from {{ source('insee', 'passage') }} where _actuelle

-- Each place with those it is compared to, by their numbers. A table of its own, for two reasons: the engine then counts
-- what mart_situation joins and keeps the rows of a place together, without which its quartiles fill the disk; and a
-- place finds its comparables by one key, without which an engine that cannot count pairs all those of a level.
select places.numero, pair.numero as comparable_numero
from {{ ref('int_place') }} as places
inner join {{ ref('int_comparable') }} as lien
    on lien.territoire_niveau = places.territoire_niveau and lien.territoire_code = places.territoire_code
inner join {{ ref('int_place') }} as pair
    on pair.indicateur_id || '|' || pair.territoire_niveau || '|' || pair.territoire_code
    = places.indicateur_id || '|' || places.territoire_niveau || '|' || lien.comparable_code
order by places.numero, pair.numero

-- A measure that is part of another never exceeds it: statistical secrecy rests on it (tolerance: rounding at the 4th decimal).
select partie.mesure_id, partie.territoire_niveau, partie.territoire_code, partie.periode, partie.valeur, tout.valeur as valeur_du_tout
from {{ ref('int_cellule_inclusion') }} as inclusion
inner join {{ ref('int_cellule') }} as partie on partie.mesure_id = inclusion.partie_id
inner join {{ ref('int_cellule') }} as tout
    on tout.mesure_id = inclusion.tout_id and tout.territoire_niveau = partie.territoire_niveau
    and tout.territoire_code = partie.territoire_code and tout.periode_debut = partie.periode_debut and tout.periode_fin = partie.periode_fin
where partie.valeur > tout.valeur + 0.0001

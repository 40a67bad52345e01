select
    source_id, titre, producteur, description, licence, citation, page, cadence, grain, confidentialite, regle_millesime,
    lien_verifie, responsable, fichier_declaration
from {{ source('registre', 'sources') }}

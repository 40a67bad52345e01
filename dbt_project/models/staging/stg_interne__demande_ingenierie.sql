-- Requests for engineering, one row each.
{{ registre('demande_ingenierie') }}

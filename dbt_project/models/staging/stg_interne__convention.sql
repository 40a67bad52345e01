-- Conventions of all interventions, one row each.
{{ registre('convention') }}

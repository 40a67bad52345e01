-- Programmes incubated by the agency, one row each.
{{ registre('incubation') }}

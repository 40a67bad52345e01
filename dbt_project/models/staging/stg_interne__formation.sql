-- Training sessions, one row each.
{{ registre('formation') }}

-- Dated targets and their successive versions.
{{ registre('objectif') }}

-- What was asked of the operators of the first circle, one row per activation.
{{ registre('convention_operateur') }}

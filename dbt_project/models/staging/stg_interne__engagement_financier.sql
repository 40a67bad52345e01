-- What each funder committed and paid, one row per commitment.
{{ registre('engagement_financier') }}

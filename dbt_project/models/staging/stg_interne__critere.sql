-- Criteria of contracts and pacts, one row per criterion and version of the grid.
{{ registre('critere') }}

-- Wilson's interval against published values: R. G. Newcombe, Statistics in Medicine 17, 1998, p. 857-872, table I, score
-- method without continuity correction; and what a proportion of nothing gives. Rows that differ at the fourth decimal.
with publies as (
    select 81 as succes, 263 as total, 0.2553 as bas, 0.3662 as haut
    union all select 15, 148, 0.0624, 0.1605
    union all select 0, 20, 0.0, 0.1611
    union all select 1, 29, 0.0061, 0.1718
    -- By symmetry with 0 of 20.
    union all select 20, 20, 0.8389, 1.0
    union all select 0, 0, null, null
),

calcules as (
    select publies.*, {{ wilson('succes', 'total', '-') }} as bas_calcule, {{ wilson('succes', 'total', '+') }} as haut_calcule
    from publies
)

select *
from calcules
where coalesce(abs(bas_calcule - bas), case when bas is null and bas_calcule is null then 0 else 1 end) > 0.00005
   or coalesce(abs(haut_calcule - haut), case when haut is null and haut_calcule is null then 0 else 1 end) > 0.00005

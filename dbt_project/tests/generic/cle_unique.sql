{% test cle_unique(model, colonnes) %}
-- The declared key designates one row: rows whose key stands more than once.
select {{ colonnes | join(', ') }}, count(*) as nombre
from {{ model }}
group by {{ colonnes | join(', ') }}
having count(*) > 1
{% endtest %}

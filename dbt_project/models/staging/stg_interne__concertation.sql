-- Consultations of inhabitants, one row each.
{{ registre('concertation') }}

-- Dated events of the requests: one of each type a day at most.
{{ registre('evenement_demande') }}

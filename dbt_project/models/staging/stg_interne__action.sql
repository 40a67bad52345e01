-- Yearly reports on actions, and indicators that a département reports by itself: one row per action and year.
{{ registre('action') }}

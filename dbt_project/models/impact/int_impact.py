"""One row per declared plan: its estimate, or why there is none. Estimators are not SQL; their inputs and outputs are.

All estimates are made here and kept by their fingerprint; the models beside this one read the same ones.
"""


def model(dbt, session):
    from orchestration.impact.warehouse import estimate_all, frame

    dbt.config(materialized="table")
    found = estimate_all(dbt.ref("int_estimation"), dbt.ref("int_unite"), dbt.ref("int_panel"), dbt.ref("int_indicateur"))
    return frame("estimation", found)

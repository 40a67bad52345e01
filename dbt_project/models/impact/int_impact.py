"""One row per declared plan: its estimate, or why there is none. Estimators are not SQL; their inputs and outputs are.

All estimates are made here and kept by their fingerprint; the models beside this one read the same ones.
"""


def model(dbt, session):
    from orchestration.impact.warehouse import estimate_all, frame

    # What it gives also depends on the day and on the register of first results, which dbt does not see; each estimate is
    # kept by its own fingerprint.
    dbt.config(materialized="table", meta={"toujours": True})
    found = estimate_all(dbt.ref("int_estimation"), dbt.ref("int_unite"), dbt.ref("int_panel"), dbt.ref("int_indicateur"))
    return frame("estimation", found)

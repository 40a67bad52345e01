def model(dbt, session):
    from orchestration.impact.warehouse import frame, last

    dbt.config(materialized="table")
    dbt.ref("int_impact")
    return frame("equilibre", last())

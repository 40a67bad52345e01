"""Comparable territories: SQL has no nearest neighbours, and every pair of 35,000 communes would be compared."""


def model(dbt, session):
    import polars as pl

    from orchestration.impact.comparables import nearest

    dbt.config(materialized="table")
    territoires = pl.DataFrame(dbt.ref("int_caracteristique"))
    found = nearest(territoires).to_dict(as_series=False)
    import pandas as pd

    return pd.DataFrame(found)

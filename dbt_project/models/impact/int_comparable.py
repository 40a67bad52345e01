"""Comparable territories: SQL has no nearest neighbours, and every pair of 35,000 communes would be compared."""


def model(dbt, session):
    import polars as pl

    from orchestration.impact.comparables import nearest

    dbt.config(materialized="table")
    territoires = pl.DataFrame(dbt.ref("int_caracteristique"))
    found = nearest(territoires)
    import pandas as pd

    # Without a row pandas would forget the types, and the contract of the mart would stop the build.
    types = dict.fromkeys(("territoire_niveau", "territoire_code", "comparable_code"), "string") | {"rang": "Int64", "distance": "Float64"}
    return pd.DataFrame({name: pd.array(found[name].to_list(), dtype=kind) for name, kind in types.items()})

"""The data that ships with the project, and the script that makes it.

``python -m ingestion.embedded`` rebuilds ``decoupage-administratif.tar.xz`` from the npm package
@etalab/decoupage-administratif (data under Licence Ouverte 2.0, sources Insee and DGCL, code MIT). It keeps the
records and fields that the declarations read, in the paths of the published files, and nothing is renamed or computed.
"""

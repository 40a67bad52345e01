"""What a record may refer to: territories, the catalogue, and the records already admitted or sent along."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingestion.records.layout import indicators, interventions, key_of, kinds
from ingestion.records.personal import pseudonym_key

if TYPE_CHECKING:
    import polars as pl

    from ingestion.paths import Home

TERRITOIRES = ("niveau", "code", "departement_code")
DATES = {"demande_ingenierie": ("date_demande",)}  # columns that rules of other kinds compare with


@dataclass
class Known:
    """What references are looked up in.

    ``territoires``: niveau, code, departement_code, one row per département that a territory lies in (any vintage).
    ``registre``: kind → key, referenced and compared columns of the admitted rows that stay, and ``_emetteur``.
    ``fichier``: kind → referenced and compared columns of the rows sent along. ``check`` narrows it to the rows it found
    good, kind after kind, and keeps what it took out in ``rejetes``. ``cle``: key of the pseudonyms, None when there is none.
    """

    territoires: pl.DataFrame
    interventions: dict[str, str]
    indicateurs: dict[str, str]
    registre: dict[str, pl.DataFrame] = field(default_factory=dict)
    fichier: dict[str, pl.DataFrame] = field(default_factory=dict)
    rejetes: dict[str, pl.DataFrame] = field(default_factory=dict)
    cle: bytes | None = None

    @classmethod
    def load(
        cls,
        where: Home | None,
        batch: dict[str, pl.DataFrame] | None = None,
        emetteur: str | None = None,
        remplace: list[int] | None = None,
        cle: bytes | None = None,
    ) -> Known:
        """All that may be referred to, for rows that ``emetteur`` sends.

        ``batch``: kind → frame of text, the tables sent together. They replace those of the same sender, which then are no
        longer known; with ``remplace``, only its lines of these numbers are. Without ``where`` neither register nor landed
        territories are looked at, and the key of the pseudonyms is ``cle``; else it is that of the environment.
        Raises ValueError when that key is unusable.
        """
        batch = batch or {}
        register = {kind: _register(kind, where, kind in batch, emetteur, remplace) for kind in kinds()} if where else {}
        sent = {kind: _sent(kind, frame) for kind, frame in batch.items()}
        return cls(
            territories(where), interventions(), indicators(), {k: f for k, f in register.items() if f is not None}, sent,
            cle=cle if cle is not None or where is None else pseudonym_key(),
        )  # fmt: skip

    def lookup(self, reference: str) -> pl.Series:
        """Distinct values of ``<kind>.<column>`` that a row may cite."""
        import polars as pl

        kind, column = reference.split(".")
        frames = [f[kind].select(column) for f in (self.registre, self.fichier) if kind in f and column in f[kind].columns]
        return pl.concat(frames).to_series().drop_nulls().unique() if frames else pl.Series(column, [], dtype=pl.String)

    def refused(self, reference: str) -> pl.Series:
        """Values of ``<kind>.<column>`` that stand in the same file, on rows found wrong."""
        import polars as pl

        kind, column = reference.split(".")
        frame = self.rejetes.get(kind)
        return frame[column] if frame is not None else pl.Series(column, [], dtype=pl.String)

    def retain(self, kind: str, lines: pl.Series) -> None:
        """From now on, only these lines of the rows of a kind sent along may be referred to."""
        frame = self.fichier.get(kind)
        if frame is not None and "_ligne" in frame.columns:
            kept = frame["_ligne"].is_in(lines.implode())
            self.fichier[kind], self.rejetes[kind] = frame.filter(kept), frame.filter(~kept)


def wanted(kind: str) -> list[str]:
    """Columns of a kind that other rows are compared with: its key, who sent it, what others cite and compare."""
    source = kinds()[kind]
    cited = {
        column.meta.saisie.reference.split(".")[1]
        for other in kinds().values() for column in other.saisies
        if column.meta.saisie and (column.meta.saisie.reference or "").startswith(f"{kind}.")
    }  # fmt: skip
    names = {*key_of(source), "departement_code", *cited, *DATES.get(kind, ())}
    return [column.name for column in source.conservees if column.name in names]


def _sent(kind: str, frame: pl.DataFrame) -> pl.DataFrame:
    from ingestion.records.check import canonical

    columns = [c for c in kinds()[kind].saisies if c.name in wanted(kind) and c.name in frame.columns]
    return frame.select("_ligne", *(canonical(column).alias(column.name) for column in columns))


def _register(
    kind: str, where: Home, replaced: bool, emetteur: str | None, remplace: list[int] | None
) -> pl.DataFrame | None:
    """Good rows of a kind in the register, those that are about to be replaced left out; None when there is none."""
    import polars as pl

    frames = []
    for path in sorted((where.root / "registre" / kind).glob("*.parquet")):
        own = replaced and path.stem == emetteur
        if own and remplace is None:
            continue
        frame = pl.scan_parquet(path).filter(pl.col("_motif").is_null())
        if own:
            frame = frame.filter(~pl.col("_ligne").is_in(remplace))
        present = [name for name in wanted(kind) if name in frame.collect_schema().names()]
        frames.append(frame.select(*present, _emetteur=pl.lit(path.stem)).collect())
    return pl.concat(frames, how="diagonal") if frames else None


# --- territories ------------------------------------------------------------------------------------------------


def _departement(code: Any) -> Any:
    """Département of a commune or arrondissement, by the start of its code."""
    import polars as pl

    return pl.when(code.str.contains("^9[78]")).then(code.str.slice(0, 3)).otherwise(code.str.slice(0, 2))


REFERENTIELS = ("etalab__communes", "etalab__epci", "etalab__departements")


def territories(where: Home | None) -> pl.DataFrame:
    """Every territory a record may name, of any vintage: niveau, code, departement_code (one row per département).

    From what the last run landed, old codes of communes included, when all of it is there: a first run may have been killed
    between two sources. Else from the embedded archive.
    """
    if where and all((where.landing / f"{name}.parquet").exists() for name in REFERENTIELS):
        found = _landed(where.landing)
        if found.height:
            return found
    return _embedded()


@cache
def _embedded() -> pl.DataFrame:
    import orjson
    import polars as pl

    from ingestion.fetch import ARCHIVE

    communes, members, departements = [], [], []
    with tarfile.open(ARCHIVE, "r:xz") as archive:
        for member in archive:
            stream = archive.extractfile(member)
            table = Path(member.name).stem
            if stream is None or table not in ("communes", "epci", "departements"):
                continue
            records = orjson.loads(stream.read())
            if table == "communes":
                communes.append(
                    pl.DataFrame(records, schema={"code": pl.String, "arrondissement": pl.String}, strict=False).rename(
                        {"code": "commune_code", "arrondissement": "arrondissement_code"}
                    )
                )
            elif table == "epci":
                members.append(
                    pl.DataFrame(
                        {"epci_code": [e["code"] for e in records for _ in e["membres"]],
                         "commune_code": [m["code"] for e in records for m in e["membres"]]}
                    )
                )  # fmt: skip
            else:
                departements.append(
                    pl.DataFrame(
                        {"departement_code": [d["code"] for d in records], "region_code": [d.get("region") for d in records]},
                        schema={"departement_code": pl.String, "region_code": pl.String},
                    )
                )
    none = pl.DataFrame(schema={"ancien_code": pl.String, "commune_code": pl.String})
    return _assemble(pl.concat(communes), pl.concat(members), pl.concat(departements), none)


def _landed(folder: Path) -> pl.DataFrame:
    import polars as pl

    def table(name: str, *columns: str) -> pl.DataFrame:
        path = folder / f"{name}.parquet"
        if not path.exists():  # INSEE's passage, which not every transport has
            return pl.DataFrame(schema={column: pl.String for column in columns})
        return pl.read_parquet(path, columns=list(columns)).unique()

    return _assemble(
        table("etalab__communes", "commune_code", "arrondissement_code"),
        table("etalab__epci", "epci_code", "commune_code"),
        table("etalab__departements", "departement_code", "region_code"),
        table("insee__passage", "ancien_code", "commune_code"),
    )


def _assemble(communes: pl.DataFrame, members: pl.DataFrame, departements: pl.DataFrame, passage: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    from ingestion.catalogue_schema import load_catalogue

    code, commune = pl.col("code"), pl.col("commune_code")
    old = passage.select(code="ancien_code", departement_code=_departement(commune))
    parts = [
        communes.select(code="commune_code", departement_code=_departement(commune)).with_columns(niveau=pl.lit("commune")),
        # An old code lies where it was, and where the commune of today is.
        pl.concat([old, old.with_columns(departement_code=_departement(code))]).with_columns(niveau=pl.lit("commune")),
        communes.drop_nulls("arrondissement_code")
        .select(code="arrondissement_code", departement_code=_departement(pl.col("arrondissement_code")))
        .with_columns(niveau=pl.lit("arrondissement")),
        members.select(code="epci_code", departement_code=_departement(commune)).with_columns(niveau=pl.lit("epci")),
        departements.select(code="departement_code", departement_code="departement_code").with_columns(niveau=pl.lit("departement")),
        departements.drop_nulls("region_code")
        .select(code="region_code", departement_code="departement_code").with_columns(niveau=pl.lit("region")),
    ]  # fmt: skip
    found = pl.concat([part.select(*(pl.col(n).cast(pl.String) for n in TERRITOIRES)) for part in parts]).unique()
    perimeters = pl.DataFrame(
        [(p.perimetre_code, m.niveau, m.code) for p in load_catalogue().perimetres for m in p.membres],
        schema={"perimetre": pl.String, "niveau": pl.String, "code": pl.String}, orient="row",
    ).join(found, on=["niveau", "code"], how="left")  # fmt: skip
    perimeters = perimeters.select(niveau=pl.lit("perimetre"), code="perimetre", departement_code="departement_code")
    return pl.concat([found, perimeters]).unique().sort(*TERRITOIRES)

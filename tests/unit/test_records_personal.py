"""What is taken for personal data and what is not, pseudonyms, and texts that a spreadsheet would run."""

from __future__ import annotations

import csv
import io
import re

import duckdb
import polars as pl
import pytest

from ingestion.records import personal
from ingestion.records.formula import neutralise
from ingestion.records.personal import MOTIFS, pseudonym, pseudonym_key, telling

CLE = b"une cle d'essai de plus de seize octets"
TELEPHONES = [
    "01 99 00 12 34", "0199001234", "tél.0199001234", "voir (01.99.00.12.34)", "+33 1 99 00 12 34", "+33(0)1 99 00 12 34",
    "0033 199001234", "01-99-00-12-34, merci", "+262 693 12 34 56", "au\u00a001\u00a099\u00a000\u00a012\u00a034",
    "06 39 98 12 34/01 99 00 11 22", "tél : 0639981234.", "+32 470 12 34 56", "(0199001234)",
]  # fmt: skip
COURRIELS = ["a.b@example.org", "voir mairie@exemple.fr.", "<x_y+z@sous.domaine.example.com>", "écrire à j-d@mairie-x.example"]
NIRS = [
    "1 85 05 78 006 084 36", "185057800608436", "1850578006084", "2 85 05 2A 006 084", "n° 185057800608436.", "2-85-05-78-006-084-36",
    "2 55 08 14 168 025 38", "1850578006084 36",
]  # fmt: skip
NEUTRES = [
    "123456789", "12345678900012", "012345678", "01234567800012", "200000000 12", "3.0123456789", "0,0123456789",
    "2.1850578006084", "1700000000000.5", "01-02-2020 12:30", "01.02.2020 12:30", "01/02/2020", "2020-07-20T12:30:00",
    "08105 08106", "01001 01002", "QP001002", "a" * 40 + "0123456789", "2A004", "W123456789", "0751234A",
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "150 000,50", "1 850 578 006", "08-PVD-001",
    "08-2022-0041", "08-0123456789", "0123456789-01", "abc_0199001234", "paquet@1.2.3", "@etalab/decoupage-administratif@4.0.0",
    "10 à 12 logements", "12,5 %", "",
]  # fmt: skip


def seen(text: str) -> list[list[bool]]:
    """Which patterns see something in a text, by Polars, DuckDB and Python."""
    patterns = list(MOTIFS.values())
    return [
        [pl.Series([text]).str.contains(p).item() for p in patterns],
        [duckdb.execute("select regexp_matches(?, ?)", [text, p]).fetchone()[0] for p in patterns],
        [bool(re.search(p, text)) for p in patterns],
    ]


@pytest.mark.parametrize(("texts", "name"), [(TELEPHONES, "un numéro de téléphone"), (COURRIELS, "une adresse électronique"), (NIRS, "un numéro de sécurité sociale")])
def test_personal_data_are_seen_the_same_way_by_polars_duckdb_and_python(texts: list[str], name: str) -> None:
    for text in texts:
        polars, in_duckdb, python = seen(text)
        assert polars == in_duckdb == python, text
        assert polars[list(MOTIFS).index(name)], text
        assert telling(text) is not None


def test_codes_dates_decimals_and_hashes_are_not_taken_for_personal_data() -> None:
    assert [text for text in NEUTRES if any(any(engine) for engine in seen(text))] == []


def test_every_code_of_the_reference_territories_is_left_alone() -> None:
    from ingestion.records.known import territories

    codes = territories(None)["code"].unique()
    assert len(codes) > 35_000
    for pattern in MOTIFS.values():
        assert codes.filter(codes.str.contains(pattern)).to_list() == []


def test_one_person_has_one_pseudonym_however_the_name_is_typed() -> None:
    typed = pl.Series("nom", ["Mme DUPONT Léa", "Léa Dupont", "Lea  dupont", "Dupont, Léa", "Léo Dupont", None, "  ", "M."])
    made = pseudonym(typed, CLE).to_list()
    assert len(set(made[:4])) == 1 and made[4] not in (None, made[0])
    assert made[5:] == [None, None, None]
    assert re.fullmatch("p[0-9a-f]{32}", made[0])
    assert telling(made[0]) is None


def test_a_pseudonym_depends_on_the_key_and_none_is_made_without_one() -> None:
    names = pl.Series("nom", ["Léa Dupont"])
    assert pseudonym(names, CLE).to_list() != pseudonym(names, CLE + b"2").to_list()
    assert pseudonym(names, None).to_list() == [None]
    assert pseudonym(pl.Series("nom", [], dtype=pl.String), CLE).to_list() == []


def test_the_key_comes_from_the_environment_and_a_weak_one_is_refused_without_being_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(personal.CLE, raising=False)
    assert pseudonym_key() is None
    monkeypatch.setenv(personal.CLE, "azerty")
    with pytest.raises(ValueError, match="trop facile à deviner") as error:
        pseudonym_key()
    assert "azerty" not in str(error.value)
    monkeypatch.setenv(personal.CLE, CLE.decode())
    assert pseudonym_key() == CLE


def test_a_text_that_a_spreadsheet_would_run_is_written_with_an_apostrophe_and_a_number_is_not() -> None:
    dangerous = ["=1+1", "+cmd|' /C calc'!A0", "-2+3+cmd", "@SUM(1)", "\t=1", "\r=1", " =1+1", "＝1+1", '=HYPERLINK("http://x")']
    plain = ["-5", "-5,5", "+3", "-1 000", "1e-7", "-1e5", "texte", "a=b", "", "08-PVD", "l'apostrophe"]
    frame = pl.DataFrame({"=nom": dangerous + plain, "n": range(-5, len(dangerous + plain) - 5)})
    safe = neutralise(frame)
    assert safe.columns == ["'=nom", "n"]
    assert safe.to_series(0).to_list() == ["'" + text for text in dangerous] + plain
    assert safe["n"].to_list() == frame["n"].to_list()
    again = list(csv.reader(io.StringIO(safe.write_csv())))
    assert not any(cell[:1] in tuple("=+@\t\r") for line in again for cell in line if cell not in plain)


def test_categories_and_nulls_are_neutralised_too() -> None:
    frame = pl.DataFrame({"c": pl.Series(["=1", None, "ok"], dtype=pl.Categorical)})
    assert neutralise(frame)["c"].to_list() == ["'=1", None, "ok"]

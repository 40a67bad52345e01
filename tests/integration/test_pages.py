"""The pages of a release as leaders open them: whole, self-contained, light, accessible, and never made up."""

from __future__ import annotations

import datetime as dt
import html as markup
import json
import re
import shutil
import subprocess
import tarfile
from pathlib import Path
from urllib.parse import unquote

import polars as pl
import pytest

from ingestion.paths import Home
from notebooks.kit import render as kit
from notebooks.kit.release import Release
from orchestration import release
from tests.integration.conftest import Run, dk, succeeded

POIDS_MAX = 500_000
# As the contents of a page name them: attributes and style that make a browser fetch something.
LOADS = re.compile(r"""<(?:script|link|img|iframe|object|embed|video|audio|source|base)\b|\bsrc\s*=|@import|url\((?!#)|https?://[^<"]*["')]""", re.I)
AXE = "4.14.1"
CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
LARGEURS = (360, 768, 1280)
VUES = ("index.html", "tableau_de_bord.html", "sur_mesure.html", "qualite_et_methode.html", "dictionnaire/index.html", "dictionnaire/fct_observation.html", "dictionnaire/bridge_intervention_indicateur.html", "interventions/france_services.html", "territoires/departement-23.html", "territoires/region-75.html")


@pytest.fixture(scope="module")
def pages(embedded: Run) -> Path:
    assert embedded.code == 0, embedded.output
    return (embedded.home.releases / "current").resolve() / "pages"


@pytest.fixture(scope="module")
def contents(pages: Path) -> dict[str, str]:
    """Every page, by its file."""
    return {p.relative_to(pages).as_posix(): p.read_text(encoding="utf-8") for p in sorted(pages.rglob("*.html"))}


def test_there_is_a_page_for_each_intervention_region_and_departement(contents: dict[str, str]) -> None:
    count = {kind: sum(name.startswith(kind) for name in contents) for kind in ("interventions/", "territoires/region-", "territoires/departement-")}
    assert count["interventions/"] == 46 and count["territoires/region-"] == 18 and count["territoires/departement-"] >= 101
    assert {"index.html", "tableau_de_bord.html", "sur_mesure.html", "qualite_et_methode.html", "dictionnaire/index.html"} <= set(contents)
    metropole = {f"territoires/departement-{code:02}.html" for code in range(1, 96) if code != 20}
    assert metropole | {f"territoires/departement-{code}.html" for code in ("2A", "2B", "971", "972", "973", "974", "976")} <= set(contents)


def test_no_page_runs_a_script_nor_fetches_anything(contents: dict[str, str]) -> None:
    assert {name: found.group() for name, text in contents.items() if (found := LOADS.search(text))} == {}


def test_every_page_is_french_titled_light_and_tells_its_release_first(contents: dict[str, str], pages: Path) -> None:
    package = json.loads((pages.parent / "datapackage.json").read_text(encoding="utf-8"))
    created = dt.datetime.fromisoformat(package["created"])
    for name, text in contents.items():
        assert text.startswith('<!doctype html><html lang="fr">'), name
        assert text.count("<h1>") == 1 and "<title>" in text, name
        after_title = text[text.index("</h1>") :]
        assert re.match(rf'</h1><p class="note">Publication {re.escape(pages.parent.name)} du \d+(er)? \w+ {created.year}\.</p>', after_title), name
        assert len(text.encode()) <= POIDS_MAX, (name, len(text.encode()))
        assert "None" not in text and "nan" not in re.findall(r">([^<]*)<", text), name


def test_every_link_leads_to_a_page_and_to_a_place_in_it(contents: dict[str, str], pages: Path) -> None:
    known = {name: set(re.findall(r'\bid="([^"]+)"', text)) for name, text in contents.items()}
    broken = []
    for name, text in contents.items():
        identifiers = re.findall(r'\bid="([^"]+)"', text)
        assert len(identifiers) == len(set(identifiers)), f"identifiants en double dans {name}"
        for target in re.findall(r'href="([^"]*)"', text):
            path, _, anchor = unquote(markup.unescape(target)).partition("#")
            where = ((pages / name).parent / path).resolve().relative_to(pages).as_posix() if path else name
            if where not in known or (anchor and anchor not in known[where]):
                broken.append((name, target))
    assert broken == []


def test_every_figure_has_its_alternative_text_and_every_table_its_caption_and_headers(contents: dict[str, str]) -> None:
    for name, text in contents.items():
        for drawing in re.findall(r"<svg[^>]*>", text):
            assert 'aria-hidden="true"' in drawing or re.search(r'role="img" aria-label="[^"]{15,}"', drawing), (name, drawing)
        tables = text.count("<table>")
        assert text.count("<caption>") == tables == text.count("<thead><tr><th scope="), name


def test_the_pages_are_summed_with_the_release_and_a_page_that_was_touched_stops_a_rollback(copie: Home) -> None:
    current = (copie.releases / "current").resolve()
    summed = {line.split("  ", 1)[1] for line in (current / "SHA256SUMS").read_text().splitlines()}
    assert {p.relative_to(current).as_posix() for p in (current / "pages").rglob("*.html")} <= summed and "dictionnaire.json" in summed
    assert oct((current / "pages" / "index.html").stat().st_mode)[-3:] == "444"
    (current / "pages" / "index.html").chmod(0o644)
    (current / "pages" / "index.html").write_text("autre chose")
    with pytest.raises(release.ReleaseError, match=r"pages/index\.html n'a plus les octets"):
        release.rollback(copie, current.name)


def test_the_same_release_gives_the_same_bytes_whatever_the_number_of_processes(pages: Path, tmp_path: Path) -> None:
    reader = Release(pages.parent)
    some = [sheet for sheet in kit.sheets(reader) if not sheet.path.startswith("territoires/") or sheet.path.endswith("-23.html")]
    reader.close()
    kit.render(pages.parent, tmp_path, some, processes=1)
    assert len(some) > 50
    assert [s.path for s in some if (tmp_path / s.path).read_bytes() != (pages / s.path).read_bytes()] == []


def test_a_page_that_cannot_be_made_refuses_the_publication_and_names_it(candidat: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    before = release.current_release(candidat)
    kept = kit.sheets
    monkeypatch.setattr(kit, "sheets", lambda reader: [*kept(reader)[:2], kit.Sheet("intervention", (("choix", None), ("intervention_id", "inconnue")), "interventions/inconnue.html")])
    with pytest.raises(release.PublicationRefused, match=r"interventions/inconnue\.html ne peut pas être faite : .*0 lignes au lieu d'une"):
        release.publish(candidat)
    assert release.current_release(candidat) == before
    monkeypatch.undo()
    name, new = release.publish(candidat)
    assert new and (candidat.releases / name / "pages" / "index.html").exists(), "le même candidat se publie ensuite"


def sur_mesure_page(folder: Path, name: str, bilans: pl.DataFrame) -> str:
    """The page on the sur-mesure when the release holds those rows of mart_sur_mesure."""
    from notebooks.sur_mesure import app

    reader = Release(folder, name=name)
    nothing = pl.DataFrame()
    _, defs = app.run(defs={"release": reader, "bilans": bilans, "manquements": nothing, "contrats": nothing, "consolidation": nothing})
    reader.close()
    return markup.unescape(defs["feuille"].html()).replace("\u00a0", " ")


def test_the_sur_mesure_page_says_plainly_that_no_record_is_in_the_release(pages: Path) -> None:
    none = pl.read_parquet(pages.parent / "parquet" / "mart_sur_mesure.parquet").clear()
    assert "ne contient aucun relevé de demandes d'ingénierie" in sur_mesure_page(pages.parent, "", none)


def sur_mesure(folder: Path, name: str = "", **national: object) -> str:
    """The page on the sur-mesure when the release holds three départements and the country."""
    line = {
        "territoire_niveau": "departement", "territoire_code": "23", "territoire_nom": "Creuse", "periode": "2024", "demandes": 30, "demandes_closes": 20,
        "part_reponse_locale": 85.0, "wilson_bas": 64.0, "wilson_haut": 94.8, "cible": 90.0, "statut_valeur": "observé", "motif": None,
        "delai_median_interlocuteur_jours": 12.0, "demandes_en_manquement": 3, "connue_le": dt.date(2025, 2, 1), "source_id": "interne__demande_ingenierie",
    }  # fmt: skip
    empty = {"part_reponse_locale": None, "wilson_bas": None, "wilson_haut": None, "delai_median_interlocuteur_jours": None}
    bilans = pl.DataFrame([
        line,
        line | empty | {"territoire_code": "08", "territoire_nom": "Ardennes", "statut_valeur": "secret", "motif": "secret statistique"},
        line | empty | {"territoire_code": "58", "territoire_nom": "Nièvre", "statut_valeur": "sans objet", "motif": "aucune demande close"},
        line | {"territoire_niveau": "national", "territoire_code": "FR", "territoire_nom": "France"} | national,
    ], infer_schema_length=None)  # fmt: skip
    return sur_mesure_page(folder, name, bilans)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(91.0, 95.0, "la promesse est tenue"), (60.0, 89.0, "la promesse n'est pas tenue"), (85.0, 95.0, "on ne peut pas conclure : l'intervalle contient la cible")],
)
def test_the_ninety_per_cent_are_judged_by_their_interval(low: float, high: float, verdict: str, pages: Path) -> None:
    text = sur_mesure(pages.parent, wilson_bas=low, wilson_haut=high)
    assert verdict in text and "Relevés connus le 1er février 2025" in text
    assert len({"la promesse est tenue", "la promesse n'est pas tenue", "on ne peut pas conclure"} & set(re.findall(r"la promesse est tenue|la promesse n'est pas tenue|on ne peut pas conclure", text))) == 1


def test_a_secret_share_is_named_and_a_demonstration_marks_each_of_its_figures(pages: Path) -> None:
    text = sur_mesure(pages.parent, name="demo-2026-01-01-1")
    assert text.count("url(#trame-secret)") == 2, "le département et sa légende"
    assert "aucune demande close" in text and "aucun relevé" in text
    drawn = re.findall(r'<svg role="img".*?</svg>', text, re.S)
    assert len(drawn) == 2 and all("données de démonstration</text>" in d for d in drawn)
    assert "Données de démonstration : aucun chiffre de cette page n'est réel." in text


def test_the_dictionary_holds_every_published_table_and_column(contents: dict[str, str], pages: Path) -> None:
    package = json.loads((pages.parent / "datapackage.json").read_text(encoding="utf-8"))
    index = contents["dictionnaire/index.html"]
    for resource in package["resources"]:
        own = contents[f"dictionnaire/{resource['name']}.html"]
        for column in resource["schema"]["fields"]:
            assert f">{column['name']}</code>" in own and f'href="{resource["name"]}.html#' in index, (resource["name"], column["name"])


# --- the command ------------------------------------------------------------------------------------------------


def test_the_page_of_a_commune_is_made_on_demand_outside_the_release(copie: Home) -> None:
    listing = sorted(p.name for p in (copie.releases / "current").resolve().rglob("*"))
    said = succeeded(dk(copie.root, "notebooks", "render", "--territoire", "commune:23096"))
    made = next(copie.root.glob("pages/*/territoires/commune-23096.html"))
    assert str(made) in said and "Guéret (commune 23096)" in made.read_text(encoding="utf-8")
    assert (made.parent.parent / "index.html").exists()
    assert sorted(p.name for p in (copie.releases / "current").resolve().rglob("*")) == listing


def test_a_code_that_no_longer_is_is_told_so(embedded: Run) -> None:
    done = dk(embedded.home.root, "notebooks", "render", "--territoire", "commune:99999", "--out", "/nulle/part")
    assert done.returncode == 2 and "pas de territoire « commune:99999 »" in done.stderr and "Traceback" not in done.stderr
    done = dk(embedded.home.root, "notebooks", "render", "--release", "2001-01-01-1")
    assert done.returncode == 1 and "pas de publication « 2001-01-01-1 »" in done.stderr


# --- in a browser -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The accessibility checker, from its npm package."""
    if shutil.which("npm") is None or CHROMIUM is None:
        pytest.skip("npm ou Chromium n'est pas installé")
    folder = tmp_path_factory.mktemp("axe")
    done = subprocess.run(["npm", "pack", f"axe-core@{AXE}", "--silent"], cwd=folder, capture_output=True, text=True, timeout=400)
    if done.returncode:
        pytest.skip("le paquet npm axe-core ne s'obtient pas d'ici")
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        member = archive.extractfile("package/axe.min.js")
        assert member is not None
        return member.read().decode()


def examine(text: str, axe: str, folder: Path) -> dict[str, dict]:
    """Opens a page at the three widths in Chromium, the network off: what axe finds, what overflows, errors, first words."""
    probe = (
        "<script>addEventListener('error',e=>parent.R.erreurs.push(String(e.message)));</script>"
    )
    finish = (
        "<script>addEventListener('load',async()=>{const d=document.documentElement;const r=await axe.run(document,{runOnly:['wcag2a','wcag2aa','wcag21a','wcag21aa','wcag22aa']});"
        "parent.R[innerWidth]={axe:r.violations.map(v=>v.id+' ('+v.impact+') '+v.nodes[0].html.slice(0,200)),passes:r.passes.length,deborde:d.scrollWidth-d.clientWidth};parent.fini();});</script>"
    )
    page = text.replace("</head>", f"{probe}</head>").replace("</body>", f"<script>{axe}</script>{finish}</body>")
    frames = "".join(f'<iframe width="{w}" height="900" style="border:0" srcdoc="{markup.escape(page, quote=True)}"></iframe>' for w in LARGEURS)
    wrapper = folder / "vue.html"
    wrapper.write_text(
        "<!doctype html><meta charset=utf-8><script>var R={erreurs:[]},n=0;function fini(){if(++n==3){const p=document.createElement('pre');p.id='resultat';p.textContent=JSON.stringify(R);document.body.appendChild(p)}}</script>" + frames,
        encoding="utf-8",
    )
    assert CHROMIUM is not None
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--proxy-server=127.0.0.1:9", f"--user-data-dir={folder / 'profil'}", "--virtual-time-budget=60000", "--dump-dom", wrapper.as_uri()],
        capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    found = re.search(r'<pre id="resultat">(.*?)</pre>', done.stdout, re.S)
    assert found, done.stderr[-1000:]
    return json.loads(markup.unescape(found.group(1)))


@pytest.mark.parametrize("name", VUES)
def test_a_browser_finds_no_error_and_axe_no_violation_at_three_widths(name: str, contents: dict[str, str], axe: str, tmp_path: Path) -> None:
    seen = examine(contents[name], axe, tmp_path)
    assert seen.pop("erreurs") == []
    assert set(seen) == {str(w) for w in LARGEURS}
    for width, found in seen.items():
        assert found["axe"] == [] and found["passes"] > 10, (width, found)
        assert found["deborde"] <= 0, f"la page déborde de {found['deborde']} px à {width} px"


def test_axe_does_find_what_is_wrong(contents: dict[str, str], axe: str, tmp_path: Path) -> None:
    wrong = contents["index.html"].replace("</main>", '<p style="color:#ddd">trop pâle</p><a href="x"></a></main>')
    found = " ".join(examine(wrong, axe, tmp_path)["360"]["axe"])
    assert "color-contrast" in found and "link-name" in found


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium n'est pas installé")
def test_a_page_is_printed_on_a4(copie: Home) -> None:
    succeeded(dk(copie.root, "notebooks", "render", "--pdf", "territoires/departement-23"))
    printed = next(copie.root.glob("pages/*/territoires/departement-23.pdf")).read_bytes()
    box = re.search(rb"/MediaBox ?\[ ?0 0 ([\d.]+) ([\d.]+)", printed)
    assert printed.startswith(b"%PDF") and box and (round(float(box[1])), round(float(box[2]))) == (595, 842)

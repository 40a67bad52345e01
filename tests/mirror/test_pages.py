"""The pages of the real files: three clicks to an honest answer, and what they cost."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.mirror.conftest import Ask, Run

DK = Path(sys.executable).parent / "dk"
# Words that claim an effect; only the answer on impact may speak of one, and its sentences are written from its status.
CAUSALES = re.compile(r"\b(grâce à|a permis|ont permis|a entraîné|ont entraîné|a provoqué|à la suite de l'intervention|du fait de l'intervention)\b", re.I)


@pytest.fixture(scope="module")
def pages(first: Run) -> Path:
    return (first.home / "releases" / "current").resolve() / "pages"


def said(text: str) -> str:
    """Words of a piece of a page, without its tags."""
    return html.unescape(re.sub(r"<[^>]+>", " ", text)).replace("\u00a0", " ")


def test_three_clicks_tell_whether_france_services_kept_its_promise_in_the_creuse(pages: Path, ask: Ask) -> None:
    index = (pages / "index.html").read_text(encoding="utf-8")
    assert re.search(r'<a href="territoires/departement-23\.html">Creuse \(23\)</a>', index), "premier geste"
    creuse = (pages / "territoires" / "departement-23.html").read_text(encoding="utf-8")
    assert re.search(r'<a href="#france-services">Programme France services</a>', creuse), "deuxième geste"
    answer = said(creuse[creuse.index('<h3 id="france-services">') :].split("<details>")[0])
    state, impact, known, public, daily = ask(
        "select m.etat_promesse, etat_impact, m.connue_le, mesures_politique_publique, mesures_vie_quotidienne from mart_intervention_du_territoire as m "
        "inner join mart_tableau_de_bord using (intervention_id) where intervention_id = 'france_services' and territoire_niveau = 'departement' and territoire_code = '23'"
    )[0]
    assert state == "mesurée, effet non établi" and "aucun impact de l'intervention n'est établi" in answer
    assert "À quel point en est-on sûr" in answer and impact in answer
    assert f"{public} de politique publique, {daily} de vie quotidienne" in answer
    assert re.search(rf"la dernière a été connue le \d+(er)? \w+ {known.year}", answer), answer
    assert '<a href="../interventions/france_services.html">' in creuse, "troisième geste : toute l'intervention"


def test_all_pages_are_rendered_within_a_minute(first: Run, tmp_path: Path) -> None:
    import os

    env = {k: v for k, v in os.environ.items() if not k.startswith("DK_")} | {"DK_HOME": str(first.home)}
    started = time.monotonic()
    done = subprocess.run([str(DK), "notebooks", "render", "--out", str(tmp_path / "pages")], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - started < 60
    assert len(list((tmp_path / "pages").rglob("*.html"))) >= 46 + 18 + 101


def test_no_page_weighs_more_than_half_a_megabyte(pages: Path) -> None:
    assert {p.name: p.stat().st_size for p in pages.rglob("*.html") if p.stat().st_size > 500_000} == {}


def test_what_is_not_credible_shows_no_sign_and_what_is_not_conclusive_shows_its_interval(pages: Path, ask: Ask) -> None:
    plans = ask("select intervention_id, statut, phrase from mart_impact")
    assert {status for _, status, _ in plans} & {"non crédible", "non concluant"}
    for intervention, status, phrase in plans:
        text = said((pages / "interventions" / f"{intervention}.html").read_text(encoding="utf-8"))
        assert status in text
        if status == "non concluant":
            assert "intervalle à 95 %" in phrase and re.search(r"intervalle à 95 % : de", text)
    shown = ask("select count(*) from mart_impact_evenement as e inner join mart_impact as m using (estimation_id) where m.statut = 'non crédible' and e.delai >= 0 and e.effet is not null")
    assert shown == [(0,)]


def test_no_word_of_cause_stands_outside_the_answer_on_impact(pages: Path) -> None:
    found = []
    for path in sorted(pages.rglob("*.html")):
        if "dictionnaire" in path.parts:
            continue
        text = path.read_text(encoding="utf-8")
        # The roadmap's own words are quoted, and sources are cited as their producers write.
        text = re.sub(r"<blockquote>.*?</blockquote>|<footer>.*?</footer>", "", text, flags=re.S)
        found += [(path.name, match.group()) for match in CAUSALES.finditer(said(text))]
    assert found == []


def test_the_targets_of_the_roadmap_are_on_the_dashboard(pages: Path, ask: Ask) -> None:
    text = said((pages / "tableau_de_bord.html").read_text(encoding="utf-8"))
    rows = ask("select libelle, numerateur, denominateur, part, cible from mart_promesse order by rang")
    assert [(d, c) for _, _, d, _, c in rows] == [(46, 100.0), (46, 100.0), (46, None)]
    for label, numerator, denominator, share, _ in rows:
        assert label in text and abs(share - 100 * numerator / denominator) < 1e-9
    measured = ask("select count(*) from mart_couverture where observes_politique_publique > 0 and observes_vie_quotidienne > 0")
    assert rows[0][1] == measured[0][0]
    assert rows[1][1] == 46, "chaque intervention a une estimation ou sa raison"


def test_the_dictionary_tells_the_producers_own_names(first: Run, pages: Path) -> None:
    facts = json.loads((pages.parent / "dictionnaire.json").read_text(encoding="utf-8"))
    anct = (pages / "dictionnaire" / "sources-anct.html").read_text(encoding="utf-8")
    column = next(c for c in facts["sources"]["anct__france_services"]["colonnes"] if c["nom"] == "site_id")
    assert column["origine"] == "id_fs ou MATRICULE" and "id_fs ou MATRICULE" in anct
    assert facts["tables"]["fct_observation"]["sources"], "la provenance remonte aux sources"

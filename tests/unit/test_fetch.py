"""Transports against a real local server: what they bring, what they refuse, and what they say about it."""

from __future__ import annotations

import datetime as dt
import email.utils
import errno
import gzip
import hashlib
import io
import lzma
import os
import subprocess
import sys
import tarfile
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingestion import fetch
from ingestion.declarations import PROJECT, Livraison, Source
from ingestion.fetch import Embedded, Fetched, FetchError, Http, Live, MirrorFolder, MirrorHttp, parse_transport, redact
from ingestion.snapshots import Snapshot, SnapshotStore
from tests.server import Response, Server, free_port

CSV = b"code;valeur\n01001;3\n" * 40
HTML = b"<!DOCTYPE html>\n<html><body>Maintenance</body></html>"
RESSOURCE = "1fa831ec-d912-4277-8b95-a8b998bf951e"
NOW = dt.datetime(2025, 6, 1, 8, 0, tzinfo=dt.UTC)


def make_source(chemin: str = "insee/rp.csv", **options: object) -> tuple[Source, Livraison]:
    livraison = {
        "millesime": "2021",
        "chemin": chemin,
        "publie_le": dt.date(2024, 3, 1),
        "live": options.pop("live", None),
    }
    source = Source(
        source_id="insee__rp", groupe="insee", nom="rp", producteur="Insee", description="d", fichier="x.yml",
        meta={
            "titre": "t", "licence": "l", "citation": "c", "confidentialite": "publique", "cadence": "annuelle",
            "regle_millesime": "r", "grain": "g", "cle": ("code",), "format": {"type": "csv"}, "livraisons": [livraison],
        } | options,
        columns=[{"name": "code", "data_type": "varchar", "description": "d", "meta": {"origine": "CODE"}}],
    )  # fmt: skip
    return source, source.meta.livraisons[0]


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


@pytest.fixture
def into(tmp_path: Path) -> Path:
    return tmp_path / "recu"


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def http(waits: list[float]) -> Http:
    """A client that notes its waits instead of waiting, with the largest jitter."""
    return Http(sleep=waits.append, random=lambda: 1.0, now=lambda: NOW, connect=2, read=2)


@pytest.fixture
def mirror(server: Server, http: Http) -> MirrorHttp:
    return MirrorHttp(server.url, http)


def get(transport: fetch.Transport, into: Path, chemin: str = "insee/rp.csv", previous=None, **options) -> Fetched:
    source, livraison = make_source(chemin, **options)
    return transport.fetch(source, livraison, chemin, previous, into)


def refusal(transport: fetch.Transport, into: Path, chemin: str = "insee/rp.csv", **options) -> str:
    """The message of the FetchError, having checked what holds for all of them."""
    before = set(into.glob("*"))
    with pytest.raises(FetchError) as caught:
        get(transport, into, chemin, **options)
    message = str(caught.value)
    assert message.startswith(f"insee__rp (2021), {chemin}")
    assert " ; " in message, "a remedy follows"
    assert set(into.glob("*")) == before, "no temporary file is left"
    return message


def assert_got(fetched: Fetched, body: bytes = CSV) -> None:
    assert fetched.path.read_bytes() == body
    assert (fetched.sha256, fetched.octets) == (hashlib.sha256(body).hexdigest(), len(body))
    assert not fetched.inchange


# --- HTTP: what is brought ----------------------------------------------------------------------------------------


def test_file_and_its_headers(server: Server, mirror: MirrorHttp, into: Path, waits: list[float]) -> None:
    headers = {"Content-Type": "text/csv; charset=utf-8"}
    server.script(
        "/insee/rp.csv",
        [Response(body=CSV, etag='"v1"', last_modified="Mon, 01 Jan 2024 00:00:00 GMT", headers=headers)],
    )
    fetched = get(mirror, into)
    assert_got(fetched)
    assert fetched.path.parent == into
    assert (fetched.url, fetched.statut_http, fetched.etag) == (f"{server.url}/insee/rp.csv", 200, '"v1"')
    assert fetched.last_modified == "Mon, 01 Jan 2024 00:00:00 GMT"
    assert fetched.content_type == "text/csv; charset=utf-8"
    sent = server.requests[0].headers
    assert sent["user-agent"].startswith("dernier-kilometre/") and sent["user-agent"].endswith("(+entrepot ANCT)")
    assert sent["accept-encoding"] == "identity"
    assert "if-none-match" not in sent
    assert waits == []


@pytest.mark.parametrize("chunked", [False, True])
def test_large_body_is_streamed_whole(server: Server, mirror: MirrorHttp, into: Path, chunked: bool) -> None:
    body = b"x;" * 300_000
    server.script("/insee/rp.csv", [Response(body=body, chunked=chunked)])
    assert_got(get(mirror, into), body)


def test_transfer_encoding_is_undone_but_a_gz_file_is_not(server: Server, mirror: MirrorHttp, into: Path) -> None:
    packed = gzip.compress(CSV)
    server.script("/insee/rp.csv", [Response(body=packed, headers={"Content-Encoding": "gzip"})])
    assert_got(get(mirror, into))
    server.script("/insee/rp.csv.gz", [Response(body=packed, headers={"Content-Type": "application/gzip"})])
    assert_got(get(mirror, into, "insee/rp.csv.gz"), packed)


def test_odd_names_are_encoded(server: Server, http: Http, tmp_path: Path, into: Path) -> None:
    name = "anct pvd/Feuille 1 (9) #é%.csv"
    (tmp_path / "m" / "anct pvd").mkdir(parents=True)
    (tmp_path / "m" / name).write_bytes(CSV)
    server.folder(tmp_path / "m", below="/base")
    assert_got(get(MirrorHttp(f"{server.url}/base/", http), into, name))


def test_unchanged_file_is_not_sent_again(server: Server, mirror: MirrorHttp, into: Path, tmp_path: Path) -> None:
    (tmp_path / "m" / "insee").mkdir(parents=True)
    (tmp_path / "m" / "insee" / "rp.csv").write_bytes(CSV)
    server.folder(tmp_path / "m")
    source, livraison = make_source()
    store = SnapshotStore(tmp_path / "store")
    first, new = store.add(get(mirror, into), source, livraison, livraison.chemin, mirror.name)
    assert new
    fetched = get(mirror, into, previous=first)
    assert (fetched.inchange, fetched.path, fetched.statut_http) == (True, None, 304)
    assert (fetched.sha256, fetched.octets) == (first.sha256, first.octets)
    assert store.add(fetched, source, livraison, livraison.chemin, mirror.name) == (first, False)
    (tmp_path / "m" / "insee" / "rp.csv").write_bytes(CSV + b"01002;4\n")
    changed = get(mirror, into, previous=first)
    assert_got(changed, CSV + b"01002;4\n")
    assert server.requests[2].headers["if-none-match"] == first.etag


def snapshot(url: str, **facts: object) -> Snapshot:
    values = {"etag": None, "last_modified": None, "content_type": None, "statut_http": 200} | facts
    return Snapshot(
        source_id="insee__rp", millesime="2021", chemin="insee/rp.csv", transport="mirror", url=url,
        obtenu_le="2025-01-01T00:00:00+00:00", sha256="0" * 64, octets=3, licence="l", connue_le="2024-03-01", **values,
    )  # fmt: skip


def test_modification_date_alone_makes_the_request_conditional(server: Server, mirror: MirrorHttp, into: Path) -> None:
    date = "Mon, 01 Jan 2024 00:00:00 GMT"
    server.script("/insee/rp.csv", [Response(body=CSV, last_modified=date)])
    assert get(mirror, into, previous=snapshot(f"{server.url}/insee/rp.csv", last_modified=date)).inchange


def test_another_server_s_etag_is_not_sent(server: Server, mirror: MirrorHttp, into: Path) -> None:
    server.script("/insee/rp.csv", [Response(body=CSV, etag='"v1"')])
    assert_got(get(mirror, into, previous=snapshot("https://ailleurs.example/insee/rp.csv", etag='"v1"')))
    assert "if-none-match" not in server.requests[0].headers


def test_not_modified_that_nobody_asked_for_is_refused(server: Server, mirror: MirrorHttp, into: Path) -> None:
    server.script("/insee/rp.csv", [Response(status=304)])
    assert "réponse inattendue (HTTP 304)" in refusal(mirror, into)
    assert "HTTP 304" in refusal(mirror, into, previous=snapshot(f"{server.url}/insee/rp.csv"))


# --- HTTP: what is tried again --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "failure",
    [
        Response(status=500),
        Response(status=503, body=HTML, headers={"Content-Type": "text/html"}),
        Response(status=429),
        Response(reset=True),
        Response(body=CSV, cut_after=100),
        Response(body=CSV, cut_after=0),
        Response(body=CSV, cut_after=100, chunked=True),
        Response(body=gzip.compress(CSV), cut_after=20, headers={"Content-Encoding": "gzip"}),
    ],
    ids=["500", "503", "429", "reset", "cut", "cut-at-once", "cut-chunked", "cut-gzip"],
)
def test_passing_failure_is_tried_again(
    server: Server, mirror: MirrorHttp, into: Path, waits: list[float], failure: Response
) -> None:
    server.script("/insee/rp.csv", [failure, failure, Response(body=CSV)])
    assert_got(get(mirror, into))
    assert len(server.requests) == 3
    assert waits == [2, 4]
    assert len(list(into.iterdir())) == 1, "what the cut tries had written is gone"


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (Response(status=502), "le serveur répond HTTP 502"),
        (Response(status=429), "le serveur répond HTTP 429"),
        (Response(reset=True), "connexion impossible ou coupée"),
        (Response(body=CSV, cut_after=100), "transfert coupé après 100 octets"),
    ],
    ids=["502", "429", "reset", "cut"],
)
def test_lasting_failure_stops_after_four_tries(
    server: Server, mirror: MirrorHttp, into: Path, waits: list[float], failure: Response, reason: str
) -> None:
    server.script("/insee/rp.csv", [failure])
    message = refusal(mirror, into)
    assert f"{reason}, après 4 essais" in message and "réessayer plus tard" in message
    assert len(server.requests) == 4
    assert waits == [2, 4, 8]


def test_wait_is_jittered(server: Server, into: Path, waits: list[float]) -> None:
    server.script("/insee/rp.csv", [Response(status=500)])
    shares = iter([0.5, 0.0, 0.25])
    refusal(MirrorHttp(server.url, Http(sleep=waits.append, random=lambda: next(shares))), into)
    assert waits == [1, 0, 2]


def test_nobody_listens(http: Http, into: Path, waits: list[float]) -> None:
    assert "connexion impossible ou coupée, après 4 essais" in refusal(
        MirrorHttp(f"http://127.0.0.1:{free_port()}", http), into
    )
    assert len(waits) == 3


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Response(body=CSV, delay=3), "délai de réponse dépassé"),
        (Response(body=CSV, drip=3), r"délai dépassé après 1 octets"),
    ],
    ids=["silent", "stalled"],
)
def test_stalled_server_is_left(server: Server, into: Path, waits: list[float], answer: Response, reason: str) -> None:
    server.script("/insee/rp.csv", [answer])
    assert f"{reason}, après 4 essais" in refusal(MirrorHttp(server.url, Http(sleep=waits.append, read=0.1)), into)
    assert len(server.requests) == 4


def test_drip_that_never_stalls_is_left_too(server: Server, into: Path, waits: list[float]) -> None:
    server.script("/insee/rp.csv", [Response(body=CSV, drip=0.02)])
    message = refusal(MirrorHttp(server.url, Http(sleep=waits.append, read=2, total=0.15)), into)
    assert "transfert trop lent" in message
    assert len(server.requests) == 1 and waits == []


@pytest.mark.parametrize(
    ("header", "wait"),
    [
        ("7", 7),
        ("120", 120),
        ("0", 0),
        (email.utils.format_datetime(NOW + dt.timedelta(seconds=45), usegmt=True), 45),
        ("Sun, 01 Jun 2025 08:00:30 -0000", 30),
        (email.utils.format_datetime(NOW - dt.timedelta(days=2), usegmt=True), 0),
        ("bientôt".encode().decode("latin-1"), 2),
        ("-5", 2),
        ("", 2),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured(
    server: Server, mirror: MirrorHttp, into: Path, waits: list[float], header: str, wait: float, status: int
) -> None:
    server.script("/insee/rp.csv", [Response(status=status, headers={"Retry-After": header}), Response(body=CSV)])
    assert_got(get(mirror, into))
    assert waits == [wait]


@pytest.mark.parametrize("header", ["121", "9" * 5000, "Sun, 01 Jun 2025 10:00:00 GMT"])
def test_long_retry_after_says_to_come_back(
    server: Server, mirror: MirrorHttp, into: Path, waits: list[float], header: str
) -> None:
    server.script("/insee/rp.csv", [Response(status=429, headers={"Retry-After": header})])
    message = refusal(mirror, into)
    assert "HTTP 429" in message and "demande d'attendre" in message and "relancer après le " in message
    if header == "121":
        assert "relancer après le 01/06/2025 à 08:02 UTC" in message
    assert waits == [] and len(server.requests) == 1


@pytest.mark.parametrize(
    ("one", "other", "differs"),
    [
        (Response(body=CSV, cut_after=100), Response(body=CSV, cut_after=200), "100 octets"),
        (
            Response(status=429, headers={"Retry-After": "300"}),
            Response(status=429, headers={"Retry-After": "Sun, 01 Jun 2025 10:00:00 GMT"}),
            "01/06/2025",
        ),
    ],
    ids=["cut", "wait"],
)
def test_equal_failures_publish_equal_reasons(
    server: Server, http: Http, into: Path, one: Response, other: Response, differs: str
) -> None:
    """What is published of a failure holds no measure of the try: two installations that fail alike publish alike."""
    errors = []
    for answer in (one, other):
        server.script("/insee/rp.csv", [answer])
        with pytest.raises(FetchError) as caught:
            get(MirrorHttp(server.url, http), into)
        errors.append(caught.value)
    assert errors[0].motif == errors[1].motif and str(errors[0]) != str(errors[1])
    assert differs in str(errors[0]) and differs not in errors[0].motif
    assert "insee__rp" in errors[0].motif and "réessayer plus tard" in errors[0].motif


# --- HTTP: what is refused at once ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Response(status=404), "ressource absente ou retirée (HTTP 404)"),
        (Response(status=410), "ressource absente ou retirée (HTTP 410)"),
        (Response(status=401), "accès refusé (HTTP 401)"),
        (Response(status=403), "accès refusé (HTTP 403)"),
        (Response(status=400), "réponse inattendue (HTTP 400)"),
        (Response(status=204), "réponse inattendue (HTTP 204)"),
        (Response(status=302), "réponse inattendue (HTTP 302)"),
        (Response(), "fichier vide"),
        (Response(chunked=True), "fichier vide"),
        (
            Response(body=CSV, headers={"Content-Type": "text/html;charset=utf-8"}),
            "page d'erreur ou de maintenance probable",
        ),
        (
            Response(body=CSV, headers={"Content-Type": "Application/XHTML+xml"}),
            "page d'erreur ou de maintenance probable",
        ),
        (Response(body=HTML, headers={"Content-Type": "text/csv"}), "page d'erreur ou de maintenance probable"),
    ],
    ids=[
        "404",
        "410",
        "401",
        "403",
        "400",
        "204",
        "302-nowhere",
        "empty",
        "empty-chunked",
        "html",
        "xhtml",
        "html-as-csv",
    ],
)
def test_definitive_answer_is_told_at_once(
    server: Server, mirror: MirrorHttp, into: Path, waits: list[float], answer: Response, reason: str
) -> None:
    server.script("/insee/rp.csv", [answer])
    assert reason in refusal(mirror, into)
    assert len(server.requests) == 1 and waits == []


@pytest.mark.parametrize(
    ("head", "page"),
    [
        (b"<html lang=fr>", True),
        (b"\xef\xbb\xbf\r\n  <!doctype HTML PUBLIC>", True),
        (b"<!-- v2 -->\n<!-- cache -->\n<html>", True),
        (b'<?xml version="1.0"?>\n<!DOCTYPE html>', True),
        (b"<htmlx>;b\n", False),
        (b'"<html>";b\n', False),
        (b"<?xml version='1.0'?><table/>", False),
    ],
)
def test_web_page_is_known_by_its_first_bytes(
    server: Server, mirror: MirrorHttp, into: Path, tmp_path: Path, head: bytes, page: bool
) -> None:
    body = head + b"x" * 2000
    server.script("/insee/rp.csv", [Response(body=body)])
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "f.csv").write_bytes(body)
    if page:
        assert "page web" in refusal(mirror, into)
        assert "page web" in refusal(MirrorFolder(tmp_path / "m"), into, "f.csv")
    else:
        assert_got(get(mirror, into), body)
        assert_got(get(MirrorFolder(tmp_path / "m"), into, "f.csv"), body)


@pytest.mark.parametrize("chunked", [False, True], ids=["announced", "not-announced"])
def test_size_limit_of_the_declaration(server: Server, mirror: MirrorHttp, into: Path, chunked: bool) -> None:
    small = {"format": {"type": "csv", "taille_max_mo": 1}}
    server.script("/insee/rp.csv", [Response(body=b"x" * 1_000_001, chunked=chunked)])
    message = refusal(mirror, into, **small)
    assert "dépasse 1 Mo" in message and "taille_max_mo" in message
    server.script("/insee/rp.csv", [Response(body=b"x" * 1_000_000, chunked=chunked)])
    assert_got(get(mirror, into, **small), b"x" * 1_000_000)


def test_default_size_limit_refuses_before_reading(server: Server, mirror: MirrorHttp, into: Path) -> None:
    server.script("/insee/rp.csv", [Response(body=CSV, headers={"Content-Length": "2048000001"})])
    assert "dépasse 2048 Mo" in refusal(mirror, into)
    server.script("/insee/rp.csv", [Response(body=CSV, headers={"Content-Length": "9" * 30})])
    assert "dépasse 2048 Mo" in refusal(mirror, into)


def test_compressed_transfer_cannot_hide_its_size(server: Server, mirror: MirrorHttp, into: Path) -> None:
    bomb = gzip.compress(b"0" * 5_000_000)
    server.script("/insee/rp.csv", [Response(body=bomb, headers={"Content-Encoding": "gzip"})])
    assert "dépasse 1 Mo" in refusal(mirror, into, format={"type": "csv", "taille_max_mo": 1})


def test_full_disk_while_receiving(
    server: Server, mirror: MirrorHttp, into: Path, monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    class Full(io.BytesIO):
        def write(self, block: bytes) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fdopen(handle: int, mode: str) -> Full:
        os.close(handle)
        return Full()

    server.script("/insee/rp.csv", [Response(body=CSV)])
    monkeypatch.setattr(fetch.os, "fdopen", fdopen)
    assert "disque plein pendant la copie, rien n'est gardé" in refusal(mirror, into)
    assert waits == []


# --- HTTP: redirects and TLS ------------------------------------------------------------------------------------------


def live_gouv(server: Server, http: Http, **options: object) -> Live:
    return Live(http, bases={"data_gouv": server.url}, **options)


GOUV = {"protocole": "data_gouv", "ressource": RESSOURCE, "confiance": "A"}
GOUV_PATH = f"/api/1/datasets/r/{RESSOURCE}"


def test_data_gouv_resource_redirects_to_its_file(server: Server, http: Http, into: Path) -> None:
    server.script(GOUV_PATH, [Response.redirect(f"{server.other_url}/resources/x/20240909/f.csv", 302)])
    server.script("/resources/x/20240909/f.csv", [Response(body=CSV, etag='"s"')])
    fetched = get(live_gouv(server, http, hotes=["LOCALHOST"]), into, live=GOUV)
    assert_got(fetched)
    assert (fetched.url, fetched.etag) == (server.url + GOUV_PATH, '"s"')
    allowed = get(live_gouv(server, http), into, live=GOUV | {"hotes": ("localhost",)})
    assert_got(allowed)
    again = get(
        live_gouv(server, http, hotes=["localhost"]), into, live=GOUV, previous=snapshot(fetched.url, etag='"s"')
    )
    assert again.inchange


def test_redirect_to_an_unknown_host_is_refused(server: Server, http: Http, into: Path) -> None:
    server.script(GOUV_PATH, [Response.redirect(f"{server.other_url}/f.csv")])
    server.script("/f.csv", [Response(body=CSV)])
    message = refusal(live_gouv(server, http), into, live=GOUV)
    assert "hôte non prévu (localhost), refusée" in message and "live.hotes" in message
    assert "/f.csv" not in server.paths


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/f.csv"])
def test_redirect_out_of_the_web_is_refused(server: Server, mirror: MirrorHttp, into: Path, location: str) -> None:
    server.script("/insee/rp.csv", [Response.redirect(location)])
    assert "redirection hors du web" in refusal(mirror, into)


def test_unreadable_redirect_is_refused(server: Server, mirror: MirrorHttp, into: Path) -> None:
    server.script("/insee/rp.csv", [Response.redirect("http://[127.0.0.1/f.csv")])
    assert "redirection vers une adresse illisible" in refusal(mirror, into)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_five_redirects_and_no_more(server: Server, mirror: MirrorHttp, into: Path, status: int) -> None:
    server.script("/insee/rp.csv", [Response.redirect("/1", status)])
    for hop in range(1, 5):
        server.script(f"/{hop}", [Response.redirect(str(hop + 1), status)])
    server.script("/5", [Response(body=CSV)])
    assert_got(get(mirror, into))
    server.script("/5", [Response.redirect("/insee/rp.csv", status)])
    assert "plus de 5 redirections" in refusal(mirror, into)


@pytest.fixture(scope="module")
def authority():
    import trustme

    return trustme.CA()


@pytest.fixture
def trusted(authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))


@pytest.mark.usefixtures("trusted")
def test_private_authority_is_given_by_the_environment(authority, http: Http, into: Path) -> None:
    with Server(ca=authority) as secure:
        secure.script("/insee/rp.csv", [Response(body=CSV)])
        assert_got(get(MirrorHttp(secure.url, http), into))


def test_unknown_authority_is_refused_at_once(
    authority, http: Http, into: Path, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    with Server(ca=authority) as secure:
        secure.script("/insee/rp.csv", [Response(body=CSV)])
        message = refusal(MirrorHttp(secure.url, http), into)
        assert "le certificat TLS de 127.0.0.1 n'est pas reconnu" in message and "REQUESTS_CA_BUNDLE" in message
        assert waits == [] and secure.requests == []


@pytest.mark.usefixtures("trusted")
def test_certificate_of_another_host_is_refused(authority, http: Http, into: Path, waits: list[float]) -> None:
    with Server(ca=authority, names=("ailleurs.example",)) as secure:
        assert "certificat TLS de 127.0.0.1 n'est pas reconnu" in refusal(MirrorHttp(secure.url, http), into)
        assert waits == [] and secure.requests == []


@pytest.mark.usefixtures("trusted")
def test_https_never_falls_to_http(authority, server: Server, http: Http, into: Path) -> None:
    server.script("/f.csv", [Response(body=CSV)])
    with Server(ca=authority) as secure:
        secure.script("/insee/rp.csv", [Response.redirect(f"{server.url}/f.csv")])
        assert "redirection de https vers http (127.0.0.1), refusée" in refusal(MirrorHttp(secure.url, http), into)
        assert server.requests == []
        server.script("/insee/rp.csv", [Response.redirect(f"{secure.url}/g.csv")])
        secure.script("/g.csv", [Response(body=CSV)])
        assert_got(get(MirrorHttp(server.url, http), into))


def test_secrets_are_sent_but_neither_told_nor_recorded(server: Server, http: Http, into: Path) -> None:
    base = server.url.replace("http://", "http://marie:s3cret@") + "/m?token=j3ton&lang=fr"
    server.script("/m/insee/rp.csv", [Response(body=CSV), Response(reset=True)])
    mirror = MirrorHttp(base, http)
    shown = f"{server.url}/m/insee/rp.csv?token=***&lang=fr"
    assert get(mirror, into).url == shown
    sent = server.requests[0]
    assert sent.query == "token=j3ton&lang=fr" and sent.headers["authorization"].startswith("Basic ")
    with pytest.raises(FetchError) as caught:
        get(mirror, into)
    told = "".join(traceback.format_exception(caught.value))
    assert shown in str(caught.value)
    assert "j3ton" not in told and "s3cret" not in told


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://a.fr/x?use_labels=false", "https://a.fr/x?use_labels=false"),
        ("https://u:p@a.fr:8443/x?X-Amz-Signature=1&v=2#access_token=3", "https://a.fr:8443/x?X-Amz-Signature=***&v=2"),
        ("https://u@a.fr/x?clef", "https://a.fr/x?clef=***"),
        ("https://[::1/x", "adresse illisible"),
    ],
)
def test_redact(url: str, shown: str) -> None:
    assert redact(url) == shown


# --- live --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("live", "url"),
    [
        (GOUV, f"https://www.data.gouv.fr/api/1/datasets/r/{RESSOURCE}"),
        (
            {"protocole": "opendatasoft", "portail": "data.drees.fr", "jeu": "530_l-apl", "confiance": "B"},
            "https://data.drees.fr/api/explore/v2.1/catalog/datasets/530_l-apl/exports/csv?use_labels=false",
        ),
        (
            {"protocole": "https", "url": "https://insee.example/f.zip?v=2", "confiance": "C"},
            "https://insee.example/f.zip?v=2",
        ),
    ],
    ids=["data_gouv", "opendatasoft", "https"],
)
def test_live_address_of_each_protocol(server: Server, http: Http, into: Path, live: dict, url: str) -> None:
    source, livraison = make_source(live=live)
    assert Live().url(livraison) == url
    assert Live().provides(source, livraison)
    path, _, query = url.split("/", 3)[3].partition("?")
    server.script(f"/{path}", [Response(body=CSV)])
    assert_got(get(Live(http, bases={live["protocole"]: server.url}), into, live=live))
    assert server.requests[0].query == query


def test_live_without_link(into: Path) -> None:
    source, livraison = make_source()
    assert not Live().provides(source, livraison)
    assert "aucun lien « live » n'est déclaré" in refusal(Live(), into)
    source, livraison = make_source("insee/*.csv", live=GOUV)
    assert not Live().provides(source, livraison)
    with pytest.raises(FetchError, match="sert un seul fichier"):
        Live().list_files(source, livraison)


def test_dead_link_tells_how_sure_it_was(server: Server, http: Http, into: Path) -> None:
    assert "(confiance C)" in refusal(live_gouv(server, http), into, live=GOUV | {"confiance": "C"})


# --- folders -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "miroir"
    for name in (
        "ditp/data/ind-2.csv",
        "ditp/data/ind-10.csv",
        "ditp/data/note.txt",
        "ditp/data/old/ind-3.csv",
        "ditp/data/ind-4.csv/x.csv",
        "a.csv",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(CSV)
    return root


def test_folder_file(folder: Path, into: Path) -> None:
    fetched = get(MirrorFolder(folder), into, "a.csv")
    assert_got(fetched)
    assert (fetched.url, fetched.statut_http, fetched.etag) == ("mirror:miroir/a.csv", None, None)
    assert (folder / "a.csv").exists()


def test_glob_takes_the_files_of_one_folder(folder: Path, server: Server, http: Http) -> None:
    wanted = ["ditp/data/ind-10.csv", "ditp/data/ind-2.csv"]
    source, livraison = make_source("ditp/data/ind-*.csv")
    assert MirrorFolder(folder).list_files(source, livraison) == wanted
    names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    (folder / "INVENTAIRE.csv").write_text(
        "\ufefffichier;octets\n" + "".join(f"{n};1\n" for n in names), encoding="utf-8"
    )
    server.folder(folder, below="/m")
    mirror = MirrorHttp(f"{server.url}/m", http)
    assert mirror.list_files(source, livraison) == wanted
    assert mirror.list_files(source, livraison) == wanted
    assert server.paths == ["/m/INVENTAIRE.csv"], "asked once"
    plain = make_source("ditp/absent.csv")
    assert mirror.list_files(*plain) == MirrorFolder(folder).list_files(*plain) == ["ditp/absent.csv"]
    for transport in (mirror, MirrorFolder(folder)):
        with pytest.raises(
            FetchError, match=r"insee__rp \(2021\), ditp/x-\*\.csv : aucun fichier ne répond à ce motif ; "
        ):
            transport.list_files(*make_source("ditp/x-*.csv"))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Response(status=404), "le miroir n'a pas de INVENTAIRE.csv ; publier INVENTAIRE.csv"),
        (Response(body=b"nom;octets\na;1\n"), "la première colonne de INVENTAIRE.csv n'est pas « fichier »"),
        (Response(body=b"fichier;\xe9\xff\n"), "INVENTAIRE.csv illisible"),
        (Response(body=HTML), "page web"),
        (Response(status=403), "accès refusé"),
    ],
)
def test_glob_needs_the_inventory(server: Server, mirror: MirrorHttp, answer: Response, reason: str) -> None:
    server.script("/INVENTAIRE.csv", [answer])
    with pytest.raises(FetchError) as caught:
        mirror.list_files(*make_source("ditp/ind-*.csv"))
    assert str(caught.value).startswith("insee__rp (2021), ditp/ind-*.csv") and reason in str(caught.value)


def test_missing_file_and_missing_folder(folder: Path, into: Path) -> None:
    message = refusal(MirrorFolder(folder), into, "b.csv")
    assert str(folder / "b.csv") in message and "le déposer sous ce chemin" in message
    assert "fichier absent" in refusal(MirrorFolder(folder), into, "ditp")
    assert "n'existe pas" in refusal(MirrorFolder(folder / "nulle-part"), into, "a.csv")
    with pytest.raises(FetchError, match="n'existe pas"):
        MirrorFolder(folder / "nulle-part").list_files(*make_source("*.csv"))


@pytest.mark.parametrize("chemin", ["../secret.csv", "a/../../secret.csv", "/etc/passwd", "a\\..\\b", "", "x\0y"])
def test_path_does_not_leave_the_mirror(folder: Path, server: Server, http: Http, into: Path, chemin: str) -> None:
    (folder.parent / "secret.csv").write_bytes(CSV)
    for transport in (
        MirrorFolder(folder),
        MirrorHttp(f"{server.url}/m", http),
        Embedded(folder / "absent.tar.xz"),
        Live(http),
    ):
        assert "sort du miroir" in refusal(transport, into, chemin)
        with pytest.raises(FetchError, match="sort du miroir"):
            transport.list_files(*make_source(chemin))
    assert server.requests == []


def test_link_does_not_leave_the_mirror(folder: Path, into: Path) -> None:
    (folder.parent / "secret.csv").write_bytes(CSV)
    (folder / "lien.csv").symlink_to(folder.parent / "secret.csv")
    (folder / "dedans.csv").symlink_to(folder / "a.csv")
    assert "un lien fait sortir" in refusal(MirrorFolder(folder), into, "lien.csv")
    assert_got(get(MirrorFolder(folder), into, "dedans.csv"))


def test_folder_file_is_guarded_too(folder: Path, into: Path) -> None:
    (folder / "vide.csv").touch()
    (folder / "gros.csv").write_bytes(b"x" * 1_000_001)
    assert "fichier vide" in refusal(MirrorFolder(folder), into, "vide.csv")
    assert "dépasse 1 Mo" in refusal(MirrorFolder(folder), into, "gros.csv", format={"type": "csv", "taille_max_mo": 1})


# --- embedded --------------------------------------------------------------------------------------------------------------


def make_archive(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:xz") as archive:
        for name, body in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
    return path


@pytest.fixture
def embedded(tmp_path: Path) -> Embedded:
    members = {"etalab/pop2016/communes.json": CSV, "etalab/pop2016/epci.json": CSV * 2, "etalab/regions.csv": CSV}
    return Embedded(make_archive(tmp_path / "petite.tar.xz", members))


def test_embedded_serves_the_members_of_its_archive(embedded: Embedded, into: Path) -> None:
    source, livraison = make_source("etalab/pop2016/communes.json.gz", embarque="defaut")
    assert embedded.provides(source, livraison)
    assert embedded.list_files(source, livraison) == ["etalab/pop2016/communes.json.gz"]
    fetched = get(embedded, into, livraison.chemin, embarque="defaut")
    assert_got(fetched)
    assert fetched.url == "embedded:petite.tar.xz/etalab/pop2016/communes.json"
    assert_got(get(embedded, into, "etalab/regions.csv", embarque="defaut"))
    globbed = make_source("etalab/pop2016/*.json.gz", embarque="defaut")
    assert embedded.list_files(*globbed) == ["etalab/pop2016/communes.json.gz", "etalab/pop2016/epci.json.gz"]
    assert "ne contient pas « etalab/x.json »" in refusal(embedded, into, "etalab/x.json.gz", embarque="defaut")


def test_archive_is_read_once_and_survives_the_folder_of_the_caller(embedded: Embedded, into: Path) -> None:
    assert_got(get(embedded, into / "a", "etalab/regions.csv", embarque="defaut"))
    for file in (into / "a").iterdir():
        file.unlink()
    (into / "a").rmdir()
    embedded.archive.unlink()
    assert_got(get(embedded, into / "b", "etalab/pop2016/epci.json.gz", embarque="defaut"), CSV * 2)


@pytest.mark.parametrize("embarque", ["non", "toujours", "defaut"])
def test_what_embedded_provides(embedded: Embedded, embarque: str) -> None:
    assert embedded.provides(*make_source(embarque=embarque, live=GOUV)) == (embarque != "non")


@pytest.mark.parametrize("damage", ["absent", "not-xz", "cut", "cut-tar"])
def test_damaged_archive_is_told(embedded: Embedded, into: Path, damage: str) -> None:
    path = embedded.archive
    whole = path.read_bytes()
    if damage == "absent":
        path.unlink()
    else:
        cut_tar = lzma.compress(lzma.decompress(whole)[:700])
        path.write_bytes({"not-xz": b"rien", "cut": whole[: len(whole) // 2], "cut-tar": cut_tar}[damage])
    message = refusal(embedded, into, "etalab/regions.csv", embarque="defaut")
    assert ("petite.tar.xz manque" if damage == "absent" else "petite.tar.xz est abîmée") in message
    assert "réinstaller le paquet" in message


def test_archive_cannot_write_elsewhere(tmp_path: Path, into: Path) -> None:
    transport = Embedded(make_archive(tmp_path / "x.tar.xz", {"../../evade.csv": CSV}))
    assert "est abîmée" in refusal(transport, into, "evade.csv", embarque="defaut")


def test_packaged_source_comes_from_the_package_whatever_the_transport(tmp_path: Path, into: Path, http: Http) -> None:
    package = tmp_path / "paquet"
    (package / "listes").mkdir(parents=True)
    for name in ("programmes.yml", "pactes.yml"):
        (package / "listes" / name).write_bytes(CSV)
    transports = [
        Embedded(tmp_path / "absente.tar.xz", package),
        MirrorFolder(tmp_path / "absent", package),
        MirrorHttp(f"http://127.0.0.1:{free_port()}", http, package),
        Live(http, package=package),
    ]
    for transport in transports:
        source, livraison = make_source("listes/*.yml", embarque="toujours")
        assert transport.provides(source, livraison)
        assert transport.list_files(source, livraison) == ["listes/pactes.yml", "listes/programmes.yml"]
        fetched = transport.fetch(source, livraison, "listes/pactes.yml", None, into)
        assert_got(fetched)
        assert (fetched.url, fetched.transport) == ("paquet:listes/pactes.yml", "embedded")
        assert "fait partie du paquet" in refusal(transport, into, "listes/x.yml", embarque="toujours")


# --- naming a transport ------------------------------------------------------------------------------------------------------


def test_parse_transport() -> None:
    assert isinstance(parse_transport("embedded"), Embedded)
    assert isinstance(parse_transport(" live "), Live)
    here = parse_transport("mirror:un/dossier")
    assert isinstance(here, MirrorFolder) and here.folder == Path.cwd() / "un" / "dossier"
    assert parse_transport("mirror:~/d").folder == Path.home() / "d"
    there = parse_transport("mirror:https://miroir.example/base")
    assert isinstance(there, MirrorHttp) and there.base == "https://miroir.example/base"
    assert isinstance(parse_transport("mirror:http://127.0.0.1:8000"), MirrorHttp)
    assert [parse_transport(t).name for t in ("embedded", "live", "mirror:d", "mirror:http://h")] == [
        "embedded", "live", "mirror", "mirror",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "",
        "mirror",
        "mirror:",
        "embedded:x",
        "live:x",
        "Live",
        "mirror:ftp://h/x",
        "mirror:https://",
        "mirror:https://[h",
        "x",
    ],
)
def test_unknown_transport_is_told_in_french(text: str) -> None:
    with pytest.raises(ValueError, match=r"^transport « .*» inconnu : écrire embedded, mirror:DOSSIER"):
        parse_transport(text)


def test_unknown_transport_keeps_the_secret() -> None:
    with pytest.raises(ValueError) as caught:
        parse_transport("mirror:ftp://marie:s3cret@h/x?token=j3ton")
    assert "s3cret" not in str(caught.value) and "j3ton" not in str(caught.value)


def test_import_stays_light() -> None:
    heavy = "import sys, ingestion.fetch; print({'requests', 'urllib3', 'polars', 'pydantic'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True, cwd=PROJECT)
    assert done.stdout.strip() == "set()"


# --- real files ---------------------------------------------------------------------------------------------------------------

OPENDATA = PROJECT.parent / "shared" / "opendata"


@pytest.mark.skipif(
    not OPENDATA.is_dir(), reason="../shared/opendata n'est pas là : les fichiers réels ne sont pas essayés"
)
def test_real_files_by_folder_and_by_http(server: Server, http: Http, into: Path) -> None:
    server.folder(OPENDATA)
    glob = make_source("ditp_barometre_2022_2024/data/ind-*.csv")
    by_folder, by_http = MirrorFolder(OPENDATA), MirrorHttp(server.url, http)
    files = by_folder.list_files(*glob)
    assert len(files) == 106
    assert by_http.list_files(*glob) == files
    for chemin in (
        "ditp_barometre_2022_2024/data/" + Path(files[0]).name,
        "anct_pvd/pvd_carte-interactive - Feuille 1_expurge.csv",
    ):
        one, two = get(by_folder, into, chemin), get(by_http, into, chemin)
        assert_got(one, (OPENDATA / chemin).read_bytes())
        assert two.sha256 == one.sha256


# --- deliveries that nobody has declared yet --------------------------------------------------------------------


def test_a_file_that_no_delivery_declares_is_reported(server: Server, http: Http, tmp_path: Path) -> None:
    (tmp_path / "insee").mkdir()
    for name in ("rp_2021.csv", "rp_2022.csv", "autre_2022.csv", "rp_2022.txt"):
        (tmp_path / "insee" / name).write_bytes(CSV)
    source, _ = make_source("insee/rp_2021.csv", nouvelles_livraisons="insee/rp_{millesime}.csv")
    assert MirrorFolder(tmp_path).undeclared(source) == ["insee/rp_2022.csv"]

    # Over HTTP the list is the mirror's inventory; without one, nothing can be said.
    server.folder(tmp_path)
    assert MirrorHttp(server.url, http).undeclared(source) == []
    (tmp_path / "INVENTAIRE.csv").write_text("fichier;sha256\ninsee/rp_2021.csv;-\ninsee/rp_2022.csv;-\n", encoding="utf-8")
    assert MirrorHttp(server.url, http).undeclared(source) == ["insee/rp_2022.csv"]
    assert Live(http).undeclared(source) == []


def test_a_source_without_a_pattern_reports_nothing(tmp_path: Path) -> None:
    (tmp_path / "insee").mkdir()
    (tmp_path / "insee" / "rp_2022.csv").write_bytes(CSV)
    assert MirrorFolder(tmp_path).undeclared(make_source()[0]) == []

"""A local server that speaks the interfaces of the producers and serves the files of a mirror by them.

    with Producers(mirror, tmp_path) as producers:
        producers.say("www.insee.fr", "/fr/…/sl_etc_2025T3.xls", [Response(status=503), Response(body=…)])
        subprocess.run([dk, "run", "--from", "live"], env=os.environ | producers.environment)

or, for a person, ``python -m tests.producers --mirror FOLDER COMMAND…``: runs the command with that environment.

The product is not told that it is under test: it asks https://www.data.gouv.fr. The server is a proxy (HTTPS_PROXY) that
answers in the place of the hosts that are declared, with a certificate of an authority of its own (REQUESTS_CA_BUNDLE), and
refuses to lead anywhere else. Names, redirects, TLS and the hosts that a redirect may lead to are thus those of production.

Spoken here, as their documentations tell: data.gouv.fr (API v1 stable link; API v2 resources of a data set, page by page, and
one resource with its checksum), Opendatasoft Explore 2.1 (exports and attachments), Insee Melodi (catalogue and files) and
insee.fr, repositories at a revision, and plain files.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from ingestion.declarations import Live, Source, load_sources
from tests.server import Request, Response, Server, _Handler

PUBLISHED = "Wed, 01 Jan 2025 08:00:00 GMT"
STAMP = "20250101-080000"


@dataclass
class Resource:
    """One resource of a data set of data.gouv.fr: what its catalogue tells and where its bytes are now."""

    id: str
    dataset: str
    title: str
    body: Path
    stamp: str = STAMP
    gone: int = 0  # status once the resource is removed
    checksum: str | None = None  # told in place of the true one

    @property
    def place(self) -> str:
        """Path on static.data.gouv.fr: the date of the upload is part of it, so each new file has another address."""
        return f"/resources/{self.dataset}/{self.stamp}/{quote(self.title)}"

    def facts(self) -> dict[str, Any]:
        day = f"{self.stamp[:4]}-{self.stamp[4:6]}-{self.stamp[6:8]}T08:00:00+00:00"
        return {
            "id": self.id, "title": self.title, "type": "main", "filetype": "file", "format": self.title.rpartition(".")[2],
            "url": f"https://static.data.gouv.fr{self.place}", "latest": f"https://www.data.gouv.fr/api/1/datasets/r/{self.id}",
            "checksum": {"type": "sha1", "value": self.checksum or hashlib.sha1(self.body.read_bytes()).hexdigest()},
            "filesize": self.body.stat().st_size, "created_at": day, "last_modified": day,
        }  # fmt: skip


class _Proxy(_Handler):
    """Answers CONNECT by taking the place of the host that was asked for."""

    def do_CONNECT(self) -> None:
        owner: Producers = self.server.owner  # type: ignore[assignment]
        host = self.path.rpartition(":")[0]
        if host not in owner.hosts:
            owner.strangers.append(host)
            self.send_error(403, "host not declared")
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.flush()
        self.connection = owner.context.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb", -1), self.connection.makefile("wb", 0)
        self.close_connection = False
        while not self.close_connection:
            self.handle_one_request()


class Producers(Server):
    """The declared producers, with the files of ``mirror``; ``folder`` receives the authority's certificate."""

    def __init__(self, mirror: Path, folder: Path, sources: Iterable[Source] | None = None, hosts: Iterable[str] = ()) -> None:
        import ssl

        import trustme

        super().__init__()
        self._http.RequestHandlerClass = _Proxy
        self.mirror = mirror
        self.resources: dict[str, Resource] = {}
        self.files: dict[tuple[str, str], Path] = {}
        self.products: dict[str, dict[str, Path]] = {}
        self.strangers: list[str] = []
        self.hosts = {"www.data.gouv.fr", "static.data.gouv.fr", "api.insee.fr", "github.com", "raw.githubusercontent.com", *hosts}
        self._said: dict[tuple[str, str], list[Response]] = {}
        for source in load_sources().values() if sources is None else sources:
            for livraison in source.meta.livraisons:
                if livraison.live:
                    self._mount(livraison.live, livraison.chemin)
        authority = trustme.CA()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(*sorted(self.hosts)).configure_cert(self.context)
        self.bundle = folder / "autorite.pem"
        authority.cert_pem.write_to_path(str(self.bundle))

    @property
    def environment(self) -> dict[str, str]:
        """What a process must have in its environment to reach the producers here and nowhere else."""
        names = ("HTTPS_PROXY", "https_proxy")
        return dict.fromkeys(names, self.url) | {"NO_PROXY": "", "no_proxy": "", "REQUESTS_CA_BUNDLE": str(self.bundle)}

    # --- what is published ---------------------------------------------------------------------------------------

    def _mount(self, live: Live, chemin: str) -> None:
        paths = sorted(self.mirror.glob(chemin)) if "*" in chemin else [self.mirror / chemin]
        if not all(path.is_file() for path in paths):
            return
        if live.protocole == "data_gouv":
            for path in paths:
                name = path.name if live.ressource or fnmatch.fnmatchcase(path.name, live.fichier) else path.name.removesuffix(".gz")
                self.publish(live.jeu or f"jeu-{live.ressource[:8]}", name, path, live.ressource)
            return
        (path,) = paths
        if live.protocole == "opendatasoft":
            host = urlsplit(live.portail).hostname or live.portail
            kind = f"attachments/{live.piece}" if live.piece else f"exports/{live.export}"
            self.serve(host, f"/api/explore/v2.1/catalog/datasets/{live.jeu}/{kind}", path)
        elif live.protocole == "melodi":
            self.products.setdefault(live.jeu, {})[live.fichier] = path
        elif live.protocole == "depot":
            self.serve("raw.githubusercontent.com", f"/{live.depot}/{live.revision}/{live.fichier}", path)
        else:
            parts = urlsplit(live.url)
            self.serve(parts.hostname, parts.path, path)

    def serve(self, host: str, path: str, file: Path) -> None:
        """A plain file at an address."""
        self.hosts.add(host)
        self.files[host, path] = file

    def publish(self, dataset: str, title: str, file: Path, resource: str | None = None, stamp: str = STAMP) -> Resource:
        """A resource of a data set; with the id of one that exists, its file is replaced and its address changes."""
        ident = resource or str(hashlib.md5(f"{dataset}/{title}".encode(), usedforsecurity=False).hexdigest())
        self.resources[ident] = Resource(ident, dataset, title, file, stamp)
        return self.resources[ident]

    def say(self, host: str, path: str, responses: list[Response]) -> None:
        """Answers to give at an address, one after the other; the last one is then repeated."""
        self.hosts.add(host)
        self._said[host, path] = list(responses)

    def asked(self, host: str) -> list[str]:
        """Paths that were asked of a host."""
        return [request.path for request in self.requests if request.headers.get("host", "").partition(":")[0] == host]

    # --- answers ---------------------------------------------------------------------------------------------------

    def _answer(self, request: Request) -> Response:
        host = request.headers.get("host", "").partition(":")[0]
        with self._lock:
            self.requests.append(request)
            said = self._said.get((host, request.path))
            if said:
                return said.pop(0) if len(said) > 1 else said[0]
        if host == "www.data.gouv.fr":
            return self._catalogue(request)
        if host == "static.data.gouv.fr":
            found = (item for item in self.resources.values() if item.place == quote(request.path) and not item.gone)
            return self._file(next((item.body for item in found), None))
        if host == "github.com" and (match := re.fullmatch(r"/([^/]+/[^/]+)/raw/([0-9a-f]+)/(.+)", request.path)):
            place = f"/{match[1]}/{match[2]}/{match[3]}"
            known = ("raw.githubusercontent.com", place) in self.files
            return Response.redirect(f"https://raw.githubusercontent.com{quote(place)}") if known else Response(status=404, body=b"Not Found")
        if host == "api.insee.fr" and request.path.startswith("/melodi/"):
            return self._melodi(request.path)
        return self._file(self.files.get((host, request.path)))

    def _file(self, path: Path | None) -> Response:
        if path is None:
            return Response(status=404, body=b"<html>404</html>", headers={"Content-Type": "text/html"})
        body = path.read_bytes()
        kind = "application/octet-stream" if PurePosixPath(path).suffix in (".gz", ".zip") else "text/csv"
        return Response(body=body, etag=f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"', last_modified=PUBLISHED,
                        headers={"Content-Type": kind})  # fmt: skip

    @staticmethod
    def _json(document: Any, status: int = 200) -> Response:
        return Response(status=status, body=json.dumps(document).encode(), headers={"Content-Type": "application/json"})

    def _catalogue(self, request: Request) -> Response:
        """API v1 and v2 of data.gouv.fr."""
        if match := re.fullmatch(r"/api/1/datasets/r/([^/]+)/?", request.path):
            item = self.resources.get(match[1])
            if item is None or item.gone:
                return self._json({"message": "Resource not found"}, item.gone if item else 404)
            return Response.redirect(f"https://static.data.gouv.fr{item.place}")
        if match := re.fullmatch(r"/api/2/datasets/resources/([^/]+)/", request.path):
            item = self.resources.get(match[1])
            if item is None or item.gone:
                return self._json({"message": "Resource not found"}, item.gone if item else 404)
            return self._json({"resource": item.facts(), "dataset_id": item.dataset})
        if match := re.fullmatch(r"/api/2/datasets/([^/]+)/resources/", request.path):
            items = sorted((r for r in self.resources.values() if r.dataset == match[1] and not r.gone), key=lambda r: r.title)
            asked = parse_qs(request.query)
            page, size = int(asked["page"][0]), int(asked["page_size"][0])
            if not items:
                return self._json({"message": "Dataset not found"}, 404)
            more = f"https://www.data.gouv.fr{request.path}?page={page + 1}&page_size={size}&type=main"
            return self._json({
                "data": [item.facts() for item in items[(page - 1) * size : page * size]], "page": page, "page_size": size,
                "total": len(items), "next_page": more if page * size < len(items) else None, "previous_page": None,
            })  # fmt: skip
        return Response(status=404, body=b"{}")

    def _melodi(self, path: str) -> Response:
        kind, _, rest = path.removeprefix("/melodi/").partition("/")
        dataset, _, product = rest.partition("/")
        products = self.products.get(dataset)
        if products is None:
            return self._json({"status": 404}, 404)
        if kind == "catalog":
            return self._json({
                "identifier": dataset,
                "product": [{"id": name, "accessURL": f"https://api.insee.fr/melodi/file/{dataset}/{name}", "modified": PUBLISHED} for name in products],
            })  # fmt: skip
        return self._file(products.get(product))


def slow(response: Response, delay: float) -> Response:
    """The same answer after a silence (seconds)."""
    return replace(response, delay=delay)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.producers", description="Une commande face aux producteurs simulés, servis d'un miroir.")
    parser.add_argument("--mirror", type=Path, required=True, help="dossier des fichiers publiés")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="commande, par exemple : dk run --from live")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dk-producteurs-") as folder, Producers(options.mirror.resolve(), Path(folder)) as producers:
        code = subprocess.run(options.command, env=os.environ | producers.environment).returncode
        hosts = sorted({request.headers.get("host", "").partition(":")[0] for request in producers.requests})
        print(f"{len(producers.requests)} requêtes à {len(hosts)} hôtes : {', '.join(hosts)}")
        if producers.strangers:
            print(f"Hôtes non déclarés, refusés : {', '.join(sorted(set(producers.strangers)))}")
    return code


if __name__ == "__main__":
    sys.exit(main())

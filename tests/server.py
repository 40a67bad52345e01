"""A local HTTP(S) server that misbehaves on demand: the producers of the failure tests.

    with Server() as server:
        server.script("/f.csv", [Response(status=500), Response(body=b"a;b\\n1;2\\n")])
        server.folder(tmp_path, below="/miroir")
        ... server.url + "/f.csv" ...
        assert server.paths == ["/f.csv", "/f.csv"]

Loopback only. ``Server(ca=trustme.CA())`` speaks TLS with a certificate of that authority, for ``names``.
"""

from __future__ import annotations

import email.utils
import hashlib
import os
import socket
import ssl
import struct
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    import trustme


@dataclass(frozen=True)
class Response:
    """One scripted answer. ``Content-Length`` always tells the whole body, whatever is sent of it.

    ``etag`` and ``last_modified`` make the answer conditional: 304 when the request already has them.
    """

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    etag: str | None = None
    last_modified: str | None = None
    cut_after: int | None = None  # bytes of body sent before the connection is closed
    reset: bool = False  # the connection is reset before any answer
    delay: float = 0  # seconds of silence before the answer
    drip: float = 0  # seconds between two bytes of the body
    chunked: bool = False  # Transfer-Encoding: chunked, no Content-Length

    @classmethod
    def redirect(cls, location: str, status: int = 302) -> Response:
        return cls(status=status, headers={"Location": location})


@dataclass(frozen=True)
class Request:
    """What was asked: ``path`` without the query, ``headers`` with lower-case names."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes = b""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Listener

    def do_GET(self) -> None:
        parts, owner = urlsplit(self.path), self.server.owner
        path = unquote(parts.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length") or 0))
        answer = owner._answer(Request(self.command, path, parts.query, headers, body))
        if answer.delay and owner._stopping.wait(answer.delay):
            self.close_connection = True
            return
        if answer.reset:
            # A linger time of zero makes close send RST; the descriptor is closed here because the standard server
            # would first shut the connection down, which sends an orderly FIN.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())
            self.close_connection = True
            return
        self._send(answer, headers)

    do_HEAD = do_POST = do_GET

    def _send(self, answer: Response, asked: dict[str, str]) -> None:
        if "if-none-match" in asked:
            known = answer.etag is not None and asked["if-none-match"] == answer.etag
        else:
            known = answer.last_modified is not None and asked.get("if-modified-since") == answer.last_modified
        status, body = (304, b"") if known else (answer.status, answer.body)
        self.send_response(status)
        for name, value in (("ETag", answer.etag), ("Last-Modified", answer.last_modified), *answer.headers.items()):
            if value is not None:
                self.send_header(name, value)
        if answer.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif status != 304 and "Content-Length" not in answer.headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD" or status == 304:
            return
        sent = body if answer.cut_after is None else body[: answer.cut_after]
        if answer.chunked:
            sent = b"%x\r\n%s\r\n" % (len(body), sent) if answer.cut_after is None else b"%x\r\n%s" % (len(body), sent)
            sent += b"0\r\n\r\n" if answer.cut_after is None else b""
        if answer.drip:
            for rank in range(len(sent)):
                self.wfile.write(sent[rank : rank + 1])
                if self.server.owner._stopping.wait(answer.drip):
                    break
        else:
            self.wfile.write(sent)
        if answer.cut_after is not None:
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are kept in ``Server.requests``; nothing goes to the console."""


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    owner: Server

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that hangs up or refuses the certificate is what the tests are about.
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class Server:
    """Context manager; listens on a free port of 127.0.0.1 (whose name may also be written ``localhost``)."""

    def __init__(self, *, ca: trustme.CA | None = None, names: tuple[str, ...] = ("127.0.0.1", "localhost")) -> None:
        self._http = _Listener(("127.0.0.1", 0), _Handler)
        self._http.owner = self
        self.port = self._http.server_address[1]
        self.scheme = "https" if ca else "http"
        if ca:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            ca.issue_cert(*names).configure_cert(context)
            # The handshake is left to the request's thread: a client that refuses it must not stop the listener.
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True, do_handshake_on_connect=False)
        self.requests: list[Request] = []
        self._scripts: dict[str, list[Response]] = {}
        self._folders: list[tuple[str, Path]] = []
        self._routes: list[tuple[str, Callable[[Request], Response]]] = []
        self._lock = threading.Lock()
        self._stopping = threading.Event()

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def other_url(self) -> str:
        """The same server by another host name."""
        return f"{self.scheme}://localhost:{self.port}"

    @property
    def paths(self) -> list[str]:
        return [request.path for request in self.requests]

    def script(self, path: str, responses: list[Response]) -> None:
        """Answers to give for that path, one after the other; the last one is then repeated."""
        if not responses:
            raise ValueError("a script needs at least one response")
        self._scripts[path] = list(responses)

    def folder(self, path: Path, below: str = "") -> None:
        """Serves the files of a folder below a path, with an ETag made of their content."""
        self._folders.append((below.rstrip("/"), Path(path).resolve()))

    def route(self, below: str, answer: Callable[[Request], Response]) -> None:
        """Answers computed from the request, for the paths that start so and have no script."""
        self._routes.append((below, answer))

    def _answer(self, request: Request) -> Response:
        with self._lock:
            self.requests.append(request)
            script = self._scripts.get(request.path)
            if script:
                return script.pop(0) if len(script) > 1 else script[0]
        for below, route in self._routes:
            if request.path.startswith(below):
                return route(request)
        for below, folder in self._folders:
            if not request.path.startswith(f"{below}/"):
                continue
            file = (folder / request.path[len(below) + 1 :]).resolve()
            if file.is_relative_to(folder) and file.is_file():
                body = file.read_bytes()
                changed = email.utils.formatdate(file.stat().st_mtime, usegmt=True)
                return Response(body=body, etag=f'"{hashlib.sha256(body).hexdigest()[:16]}"', last_modified=changed)
        return Response(status=404, body=b"absent")

    def __enter__(self) -> Server:
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._http.shutdown()
        self._http.server_close()


def free_port() -> int:
    """A port of 127.0.0.1 on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]

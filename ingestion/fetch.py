"""Files of a delivery brought to the disk: one fetcher per protocol, never one per source.

Three transports: ``embedded`` (files shipped with the package), ``mirror:`` (a folder or a base URL laid out as the
declared ``chemin``) and ``live`` (where the producer publishes). Whatever the transport, sources declared
``embarque: toujours`` come from the package itself, and deliveries declared ``registre`` from the register of admitted
records of the installation; those declared ``demonstration`` come with ``embedded`` only. Nothing is parsed here: what
is refused is refused because it is not the published file at all (error page, cut transfer, empty file, file beyond the
declared size).
"""

from __future__ import annotations

import csv
import datetime as dt
import email.utils
import errno
import fnmatch
import hashlib
import itertools
import json
import lzma
import os
import random
import re
import tarfile
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urljoin, urlsplit, urlunsplit

if TYPE_CHECKING:
    import requests

    from ingestion.declarations import Livraison, Source
    from ingestion.paths import Home
    from ingestion.snapshots import Snapshot

PACKAGE = Path(__file__).resolve().parent
ARCHIVE = PACKAGE / "embedded" / "decoupage-administratif.tar.xz"
INVENTAIRE = "INVENTAIRE.csv"
BASES = {"data_gouv": "https://www.data.gouv.fr", "melodi": "https://api.insee.fr", "depot": "https://github.com"}
HOTES = {
    "data_gouv": ("www.data.gouv.fr", "static.data.gouv.fr", "object.files.data.gouv.fr"),
    "melodi": ("api.insee.fr",),
    "depot": ("github.com", "raw.githubusercontent.com", "media.githubusercontent.com"),
}
# Algorithms by which data.gouv.fr may announce the checksum of a file that it hosts.
EMPREINTES = {"sha1", "sha256", "md5"}
A_SONDER = 4  # vintages looked for beyond the last one, where the producer lists nothing

TAILLE_MAX_MO = 2048
BLOCK = 1 << 16
TRIES = 4
REDIRECTS = 5
ATTENTE_MAX_S = 120
HTML_TYPES = {"text/html", "application/xhtml+xml"}
HTML_START = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html)\b", re.IGNORECASE | re.DOTALL
)
# The value of any other query parameter may be a secret (a token, a signature): it is never shown nor recorded.
PARAMETRES_PUBLICS = {
    "use_labels", "page", "page_size", "type", "delimiter", "lang", "format", "limit", "offset", "select", "where", "order_by", "refine", "timezone",
    "annee", "millesime", "version", "v",
}  # fmt: skip
PLUS_TARD = "réessayer plus tard, ou prendre le fichier d'un miroir (mirror:DOSSIER)"


class FetchError(RuntimeError):
    """The file could not be obtained; the French message names the source, the file and the remedy.

    ``motif`` says the same without what differs at each try (hours, bytes received, waiting times) nor where this
    installation keeps its files: it is published, and equal failures must give equal bytes.
    """

    def __init__(self, message: str, statut_http: int | None = None, motif: str | None = None) -> None:
        super().__init__(message)
        self.statut_http = statut_http
        self.motif = motif or message


class _Transient(Exception):
    """Worth another try. ``wait`` is what the server asked for, in seconds; ``detail``, what differs at each try."""

    def __init__(self, reason: str, statut_http: int | None = None, wait: float | None = None, detail: str = "") -> None:
        super().__init__(reason)
        self.statut_http = statut_http
        self.wait = wait
        self.detail = detail


@dataclass(frozen=True)
class Fetched:
    """One obtained file. ``path`` is a temporary file that now belongs to the caller, None when ``inchange``.

    ``url`` holds no credential. ``transport`` is set when the file came from the package and not from the transport
    that was asked.
    """

    path: Path | None
    sha256: str
    octets: int
    url: str
    statut_http: int | None = None
    etag: str | None = None
    last_modified: str | None = None
    content_type: str | None = None
    inchange: bool = False
    transport: str | None = None


@dataclass(frozen=True)
class Ask:
    """One file to obtain: who asks (for messages), from where, how much at most (bytes), what to do if it is gone.

    ``jeton`` is a bearer token, sent to this very address and to no other: no redirection is then followed.
    ``denied`` says what to do about a refused access. With a ``body`` (JSON) the request is a POST.
    """

    label: str
    url: str
    limit: int
    remedy: str
    hosts: frozenset[str] = frozenset()
    jeton: str | None = field(default=None, repr=False)
    body: bytes | None = field(default=None, repr=False)
    denied: str = "vérifier que le fichier est toujours public, ou les droits sur le miroir"
    announced: tuple[str, str] | None = None  # algorithm and checksum that the producer's catalogue tells

    @property
    def shown(self) -> str:
        return redact(self.url)

    def error(
        self, reason: str, remedy: str | None = None, statut_http: int | None = None, detail: str = "", motif: str = ""
    ) -> FetchError:
        """``detail`` goes after the reason and ``motif`` in place of the remedy where the one or the other must not vary."""
        start, remedy = f"{self.label} <{self.shown}> : {reason}", remedy or self.remedy
        return FetchError(f"{start}{detail} ; {remedy}", statut_http, f"{start} ; {motif or remedy}")


def redact(url: str) -> str:
    """The URL without user, password, fragment, nor the value of any query parameter not known to be harmless."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "adresse illisible"
    host = parts.netloc.rpartition("@")[2]
    query = [(k, v if k.lower() in PARAMETRES_PUBLICS else "***") for k, v in parse_qsl(parts.query, True)]
    return urlunsplit((parts.scheme, host, parts.path, urlencode(query, safe="*"), ""))


# --- bytes to the disk -----------------------------------------------------------------------------------------


class _Sink:
    """A temporary file in ``into``, hashed and guarded while it is written; removed unless ``finish`` succeeded."""

    def __init__(self, ask: Ask, into: Path) -> None:
        self.ask, self.octets, self._digest, self._head, self._done = ask, 0, hashlib.sha256(), b"", False
        self._control = hashlib.new(ask.announced[0], usedforsecurity=False) if ask.announced else None
        try:
            into.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix="recu-", dir=into)
        except OSError as error:
            raise self._full(error) from error
        self.path, self._file = Path(name), os.fdopen(handle, "wb")

    def __enter__(self) -> _Sink:
        return self

    def write(self, block: bytes) -> None:
        self.octets += len(block)
        if self.octets > self.ask.limit:
            raise _too_large(self.ask)
        self._digest.update(block)
        if self._control:
            self._control.update(block)
        if len(self._head) < 1024:
            self._head += block[: 1024 - len(self._head)]
        try:
            self._file.write(block)
        except OSError as error:
            raise self._full(error) from error

    def finish(self, **facts: Any) -> Fetched:
        """The file, once it is neither empty nor a web page. Raises FetchError."""
        if not self.octets:
            raise self.ask.error("fichier vide", PLUS_TARD)
        if HTML_START.match(self._head):
            raise _web_page(self.ask)
        if self._control and self._control.hexdigest() != self.ask.announced[1].lower():
            # A file replaced a moment ago, or a cache that serves the old one: the next try may agree.
            raise _Transient(f"le fichier reçu n'a pas l'empreinte {self.ask.announced[0]} que le catalogue annonce")
        try:
            self._file.close()
        except OSError as error:
            raise self._full(error) from error
        self._done = True
        return Fetched(self.path, self._digest.hexdigest(), self.octets, self.ask.shown, **facts)

    def __exit__(self, *_: object) -> None:
        if not self._done:
            with suppress(OSError):  # thrown away: whether its last block was written no longer matters
                self._file.close()
            self.path.unlink(missing_ok=True)

    def _full(self, error: OSError) -> FetchError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return self.ask.error(
                "disque plein pendant la copie, rien n'est gardé", "libérer de la place puis relancer"
            )
        return self.ask.error(
            f"écriture impossible ({error.strerror or error})", "vérifier les droits du dossier de travail"
        )


def _too_large(ask: Ask) -> FetchError:
    return ask.error(
        f"le fichier dépasse {ask.limit // 1_000_000} Mo, téléchargement arrêté",
        "si cette taille est normale, relever taille_max_mo dans la déclaration",
    )


def _web_page(ask: Ask) -> FetchError:
    return ask.error(
        "c'est une page web, non un fichier de données (page d'erreur ou de maintenance probable)", PLUS_TARD
    )


def _copy(path: Path, ask: Ask, into: Path) -> Fetched:
    with _Sink(ask, into) as sink:
        try:
            stream = path.open("rb")
        except OSError as error:
            raise ask.error(f"lecture impossible ({error.strerror or error})") from error
        with stream:
            while True:
                try:
                    block = stream.read(BLOCK)
                except OSError as error:
                    raise ask.error(f"lecture interrompue ({error.strerror or error})", "vérifier ce disque") from error
                if not block:
                    return sink.finish()
                sink.write(block)


# --- HTTP ------------------------------------------------------------------------------------------------------


def _utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class _Bearer:
    """Adds a bearer token to a request; shows nothing of it."""

    def __init__(self, jeton: str) -> None:
        self._jeton = jeton

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._jeton}"
        return request

    def __repr__(self) -> str:
        return "_Bearer(***)"


class Http:
    """One careful HTTP client, shared by mirrors and producers.

    Times are seconds; ``sleep``, ``random`` and ``now`` are the waiting, the jitter (0 to 1) and the clock. TLS is
    always verified; a private authority is given by the environment variable REQUESTS_CA_BUNDLE.
    """

    def __init__(
        self,
        *,
        sleep: Callable[[float], None] = time.sleep,
        random: Callable[[], float] = random.random,
        now: Callable[[], dt.datetime] = _utc_now,
        connect: float = 10,
        read: float = 60,
        total: float = 1800,
    ) -> None:
        self._sleep, self._random, self._now = sleep, random, now
        self._timeout, self._total = (connect, read), total

    @cached_property
    def _session(self) -> requests.Session:
        from importlib.metadata import PackageNotFoundError, version

        import requests

        try:
            release = version("dernier-kilometre")
        except PackageNotFoundError:
            release = "source"
        session = requests.Session()
        # Bytes are kept as published, so the transfer is asked without compression.
        session.headers.update(
            {
                "User-Agent": f"dernier-kilometre/{release} (+entrepot ANCT)",
                "Accept-Encoding": "identity",
                "Accept": "*/*",
            }
        )
        # Redirects are followed here, hop by hop. Left to itself, requests prepares the next hop even when it is not
        # to follow it, and reads the whole body of the redirect for that.
        session.get_redirect_target = lambda response: None  # type: ignore[method-assign]
        return session

    def get(self, ask: Ask, into: Path, previous: Snapshot | None = None) -> Fetched:
        """The file at ``ask.url``, in a temporary file of ``into``; asked conditionally when ``previous`` is given.

        ``previous`` serves only if it came from the same URL: the ETag and date of another server say nothing here.
        Raises FetchError, at once when trying again cannot help, after four tries otherwise.
        """
        if previous is not None and previous.url != ask.shown:
            previous = None
        for attempt in itertools.count(1):
            try:
                return self._once(ask, into, previous)
            except _Transient as failure:
                # The chained exceptions of requests hold the whole URL, secrets included: none is let out.
                if attempt == TRIES:
                    detail = f"{failure.detail}, après {TRIES} essais"
                    raise ask.error(f"{failure}", PLUS_TARD, failure.statut_http, detail) from None
                if failure.wait is not None and failure.wait > ATTENTE_MAX_S:
                    back = (self._now() + dt.timedelta(seconds=failure.wait)).strftime("%d/%m/%Y à %H:%M UTC")
                    raise ask.error(
                        f"{failure} ; le serveur demande d'attendre",
                        f"relancer après le {back}",
                        failure.statut_http,
                        f" {failure.wait:.0f} s",
                        PLUS_TARD,
                    ) from None
                self._sleep(self._random() * min(30, 2**attempt) if failure.wait is None else failure.wait)

    def document(self, ask: Ask) -> Any:
        """The JSON document at ``ask.url``. Raises FetchError, also for what is not JSON."""
        with tempfile.TemporaryDirectory(prefix="dk-catalogue-") as folder:
            path = self.get(ask, Path(folder)).path
            try:
                return json.loads(path.read_bytes())
            except (ValueError, UnicodeDecodeError):
                raise ask.error("la réponse du catalogue n'est pas du JSON", PLUS_TARD) from None

    def exists(self, ask: Ask) -> bool:
        """Whether a data file is at ``ask.url``; nothing of it is read. Whatever goes wrong means that it is not known to be."""
        import requests

        url = ask.url
        for _ in range(REDIRECTS + 1):
            try:
                with self._session.head(url, timeout=self._timeout) as response:
                    if response.is_redirect:
                        url = self._next_hop(ask, url, response.headers["Location"])
                        continue
                    kind = (response.headers.get("Content-Type") or "").partition(";")[0].strip().lower()
                    return response.status_code == 200 and kind not in HTML_TYPES
            except (requests.exceptions.RequestException, ValueError, FetchError):
                return False
        return False

    def _once(self, ask: Ask, into: Path, previous: Snapshot | None) -> Fetched:
        import requests

        headers = {}
        if previous is not None and previous.etag:
            headers["If-None-Match"] = previous.etag
        if previous is not None and previous.last_modified:
            headers["If-Modified-Since"] = previous.last_modified
        options: dict[str, Any] = {"stream": True, "timeout": self._timeout}
        if ask.body is not None:
            options["data"] = ask.body
            options["headers"] = {**headers, "Content-Type": "application/json"}
        else:
            options["headers"] = headers
        if ask.jeton is not None:
            # As ``auth``, not as a header: a .netrc that knows the host would replace the header.
            options["auth"] = _Bearer(ask.jeton)
            if ask.url.startswith("http:"):  # this machine itself: no proxy reads a token in clear
                options["proxies"] = {"http": None, "https": None, "all": None}
        url, deadline = ask.url, time.monotonic() + self._total
        for _ in range(REDIRECTS + 1):
            try:
                response = self._session.request("GET" if ask.body is None else "POST", url, **options)
            except requests.exceptions.SSLError as error:
                if "CERTIFICATE_VERIFY_FAILED" in str(error):
                    raise ask.error(
                        f"le certificat TLS de {urlsplit(url).hostname} n'est pas reconnu",
                        "derrière une autorité privée, donner son fichier PEM par REQUESTS_CA_BUNDLE ; sinon ne pas insister",
                    ) from None
                raise _Transient("échange TLS rompu") from None
            except requests.exceptions.ProxyError:
                raise _Transient("le serveur mandataire (proxy) refuse ou ne répond pas") from None
            except requests.exceptions.Timeout:
                raise _Transient("délai de réponse dépassé") from None
            except (requests.exceptions.ConnectionError, requests.exceptions.ChunkedEncodingError):
                raise _Transient("connexion impossible ou coupée") from None
            except (requests.exceptions.RequestException, ValueError):
                raise ask.error(
                    "adresse invalide", "corriger l'adresse du miroir ou « live » dans la déclaration"
                ) from None
            with response:
                if response.status_code in (301, 302, 303, 307, 308) and "Location" in response.headers:
                    if ask.jeton is not None or ask.body is not None:
                        raise ask.error(
                            "redirection refusée : le jeton n'est envoyé qu'à l'adresse configurée",
                            "corriger « base » du connecteur, ou demander à l'hébergeur pourquoi il redirige",
                            response.status_code,
                        )
                    url = self._next_hop(ask, url, response.headers["Location"])
                    continue
                return self._receive(ask, into, response, previous if headers else None, deadline)
        raise ask.error(f"plus de {REDIRECTS} redirections", "vérifier l'adresse dans un navigateur et la corriger")

    @staticmethod
    def _next_hop(ask: Ask, url: str, location: str) -> str:
        remedy = "vérifier l'adresse ; si cet hôte est bien du producteur, l'ajouter à live.hotes dans la déclaration"
        try:
            target = urljoin(url, location)
            parts = urlsplit(target)
            host = (parts.hostname or "").lower()
        except ValueError:
            raise ask.error("redirection vers une adresse illisible", remedy) from None
        if parts.scheme not in ("http", "https"):
            raise ask.error("redirection hors du web", remedy)
        if parts.scheme == "http" and urlsplit(ask.url).scheme != "http":
            raise ask.error(
                f"redirection de https vers http ({host}), refusée", "demander au producteur de la corriger"
            )
        if host not in ask.hosts | {urlsplit(ask.url).hostname}:
            raise ask.error(f"redirection vers un hôte non prévu ({host}), refusée", remedy)
        return target

    def _receive(
        self, ask: Ask, into: Path, response: requests.Response, previous: Snapshot | None, deadline: float
    ) -> Fetched:
        import urllib3

        status, headers = response.status_code, response.headers
        facts = {
            "statut_http": status,
            "etag": headers.get("ETag"),
            "last_modified": headers.get("Last-Modified"),
            "content_type": headers.get("Content-Type"),
        }
        if status == 304 and previous is not None:
            return Fetched(None, previous.sha256, previous.octets, ask.shown, inchange=True, **facts)
        if status in (408, 429) or status >= 500:
            raise _Transient(f"le serveur répond HTTP {status}", status, self._retry_after(headers.get("Retry-After")))
        if status in (401, 403):
            raise ask.error(f"accès refusé (HTTP {status})", ask.denied, status)
        if status in (404, 410):
            raise ask.error(f"ressource absente ou retirée (HTTP {status})", statut_http=status)
        if status != 200:
            raise ask.error(f"réponse inattendue (HTTP {status})", statut_http=status)
        if (facts["content_type"] or "").partition(";")[0].strip().lower() in HTML_TYPES:
            raise _web_page(ask)
        announced = headers.get("Content-Length", "")
        if announced.isascii() and announced.isdigit() and (len(announced) > 15 or int(announced) > ask.limit):
            raise _too_large(ask)
        with _Sink(ask, into) as sink:
            while True:
                try:
                    # read1 gives what has come: a server that drips is seen, whereas read would wait for a full block.
                    # urllib3 itself checks the length of the body against Content-Length.
                    block = response.raw.read1(BLOCK, decode_content=True)
                except urllib3.exceptions.ReadTimeoutError:
                    raise _Transient("délai dépassé", detail=f" après {sink.octets} octets") from None
                except (urllib3.exceptions.HTTPError, OSError):
                    raise _Transient("transfert coupé", detail=f" après {sink.octets} octets") from None
                if not block:
                    return sink.finish(**facts)
                sink.write(block)
                if time.monotonic() > deadline:
                    raise ask.error(f"transfert trop lent, arrêté au bout de {self._total:.0f} s", PLUS_TARD)

    def _retry_after(self, value: str | None) -> float | None:
        """Seconds asked by a Retry-After header, in either of its forms; None when absent or unreadable."""
        value = (value or "").strip()
        if re.fullmatch(r"[0-9]+", value):
            return float(value[:9])
        try:
            when = email.utils.parsedate_to_datetime(value)
        except (TypeError, ValueError, OverflowError):
            return None
        if when.tzinfo is None:
            when = when.replace(tzinfo=dt.UTC)
        return max(0.0, (when - self._now()).total_seconds())


# --- transports ------------------------------------------------------------------------------------------------


def _is_glob(chemin: str) -> bool:
    return any(mark in chemin for mark in "*?[")


def _check_chemin(label: str, chemin: str) -> None:
    path = PurePosixPath(chemin)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\\" in chemin or "\0" in chemin:
        raise FetchError(f"{label} : le chemin « {chemin} » sort du miroir ; corriger « chemin » dans la déclaration")


def _matching(names: Iterable[str], pattern: str) -> list[str]:
    """Names that match, folder by folder: a star does not cross a slash."""
    wanted = pattern.split("/")

    def matches(name: str) -> bool:
        parts = name.split("/")
        return len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted))

    return sorted(filter(matches, names))


def _in_folder(folder: Path, pattern: str) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.glob(pattern) if path.is_file())


def _inside(folder: Path, chemin: str, label: str, remedy: str) -> Path:
    """The file below the folder, links followed. Raises FetchError when it is absent or outside."""
    path = (folder / chemin).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise FetchError(
            f"{label} : un lien fait sortir « {chemin} » du dossier {folder.name} ; y mettre le fichier même"
        )
    if not path.is_file():
        motif = f"{label} : fichier absent ; {remedy}"
        raise FetchError(f"{label} : fichier absent ({folder / chemin}) ; {remedy}", motif=motif)
    return path


class Transport(ABC):
    """Where files come from. Sources declared ``embarque: toujours`` come from ``package`` for every transport."""

    name: str

    def __init__(self, package: Path = PACKAGE) -> None:
        self.package = package

    @property
    def silence(self) -> str:
        """Why a delivery is not there that this transport was the first not to be asked for."""
        return f"le transport « {self.name} » ne fournit pas cette livraison"

    def provides(self, source: Source, livraison: Livraison) -> bool:
        """Whether this transport can be asked for the delivery; asking does not touch the network."""
        if livraison.registre or livraison.demonstration:
            return False  # see ``carrier``
        return source.meta.embarque == "toujours" or self._provides(source, livraison)

    def list_files(self, source: Source, livraison: Livraison) -> list[str]:
        """Paths of the files of a delivery, sorted: its ``chemin``, or what its glob matches.

        Raises FetchError when nothing matches or the list cannot be had.
        """
        label, chemin = self._label(source, livraison, livraison.chemin), livraison.chemin
        _check_chemin(label, chemin)
        if not _is_glob(chemin):
            return [chemin]
        packaged = source.meta.embarque == "toujours"
        found = _in_folder(self.package, chemin) if packaged else self._members_of(label, livraison)
        if not found:
            raise FetchError(
                f"{label} : aucun fichier ne répond à ce motif ; compléter le miroir ou corriger « chemin »"
            )
        return found

    def undeclared(self, source: Source) -> list[str]:
        """Files that follow the source's ``nouvelles_livraisons`` and that no delivery declares, sorted.

        Empty where this transport cannot tell what the producer holds.
        """
        pattern = source.meta.motif_nouvelles
        if not pattern or not any(self.provides(source, item) for item in source.meta.livraisons):
            return []
        try:
            found = self._newer(source, pattern)
        except FetchError:
            return []
        known = [item.chemin for item in source.meta.livraisons]
        return sorted(name for name in found if not any(name in _matching([name], chemin) for chemin in known))

    def _newer(self, source: Source, pattern: str) -> list[str]:
        return self._expand(source.source_id, pattern.replace("{millesime}", "*"))

    def fetch(
        self, source: Source, livraison: Livraison, chemin: str, previous: Snapshot | None, into: Path
    ) -> Fetched:
        """One file of a delivery, in a temporary file of the folder ``into`` that belongs to the caller.

        ``previous`` is the snapshot that a « not modified » may stand for: its bytes must still be in the store
        (``SnapshotStore.reusable``). Raises FetchError; then no temporary file is left.
        """
        label = self._label(source, livraison, chemin)
        _check_chemin(label, chemin)
        limit = (livraison.format.over(source.meta.format).taille_max_mo or TAILLE_MAX_MO) * 1_000_000
        if source.meta.embarque == "toujours":
            remedy = "ce fichier fait partie du paquet ; le réinstaller ou corriger « chemin »"
            path = _inside(self.package, chemin, label, remedy)
            found = _copy(path, Ask(label, f"paquet:{chemin}", limit, remedy), into)
            return Fetched(found.path, found.sha256, found.octets, found.url, transport="embedded")
        return self._fetch(label, livraison, chemin, limit, previous, into)

    def _members_of(self, label: str, livraison: Livraison) -> list[str]:
        return self._expand(label, livraison.chemin)

    @staticmethod
    def _label(source: Source, livraison: Livraison, chemin: str) -> str:
        return f"{source.source_id} ({livraison.millesime}), {chemin}"

    @abstractmethod
    def _provides(self, source: Source, livraison: Livraison) -> bool: ...

    @abstractmethod
    def _expand(self, label: str, pattern: str) -> list[str]: ...

    @abstractmethod
    def _fetch(
        self, label: str, livraison: Livraison, chemin: str, limit: int, previous: Snapshot | None, into: Path
    ) -> Fetched: ...


class Package(Transport):
    """Nobody is asked: only the sources declared ``embarque: toujours`` come, from the package itself."""

    name = "paquet"
    silence = "jamais collectée"

    def _provides(self, source: Source, livraison: Livraison) -> bool:
        return False

    def _expand(self, label: str, pattern: str) -> list[str]:
        raise FetchError(f"{label} : le paquet ne contient pas cette livraison ; la demander à un miroir ou au producteur")

    def _fetch(
        self, label: str, livraison: Livraison, chemin: str, limit: int, previous: Snapshot | None, into: Path
    ) -> Fetched:
        raise FetchError(f"{label} : le paquet ne contient pas « {chemin} » ; le demander à un miroir ou au producteur")


class Embedded(Transport):
    """Files of the archive shipped with the package; a ``chemin`` in .gz is there without its .gz."""

    name = "embedded"

    def __init__(self, archive: Path = ARCHIVE, package: Path = PACKAGE) -> None:
        super().__init__(package)
        self.archive = archive
        self._lock = threading.Lock()
        self._opened: tempfile.TemporaryDirectory[str] | None = None

    def _members(self, label: str) -> Path:
        """The folder of the extracted archive. xz is sequential: one pass takes everything out, once per object."""
        remedy = "réinstaller le paquet, ou prendre le fichier d'un miroir (mirror:DOSSIER)"
        with self._lock:
            if self._opened is None:
                opened = tempfile.TemporaryDirectory(prefix="dk-embarque-", ignore_cleanup_errors=True)
                try:
                    with tarfile.open(self.archive, "r:xz") as archive:
                        archive.extractall(opened.name, filter="data")
                except FileNotFoundError:
                    opened.cleanup()
                    raise FetchError(f"{label} : l'archive embarquée {self.archive.name} manque ; {remedy}") from None
                except (tarfile.TarError, lzma.LZMAError, EOFError, ValueError, OSError) as error:
                    opened.cleanup()
                    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                        raise FetchError(
                            f"{label} : disque plein en dépliant {self.archive.name} ; libérer de la place dans "
                            f"{tempfile.gettempdir()} (ou régler TMPDIR) puis relancer"
                        ) from error
                    raise FetchError(
                        f"{label} : l'archive embarquée {self.archive.name} est abîmée ; {remedy}"
                    ) from error
                self._opened = opened
            return Path(self._opened.name)

    def _provides(self, source: Source, livraison: Livraison) -> bool:
        return source.meta.embarque == "defaut"

    def _expand(self, label: str, pattern: str) -> list[str]:
        suffix = ".gz" if pattern.endswith(".gz") else ""
        return [name + suffix for name in _in_folder(self._members(label), pattern.removesuffix(".gz"))]

    def _fetch(
        self, label: str, livraison: Livraison, chemin: str, limit: int, previous: Snapshot | None, into: Path
    ) -> Fetched:
        member = chemin.removesuffix(".gz")
        remedy = "prendre le fichier d'un miroir (mirror:DOSSIER) ou du producteur (live)"
        folder = self._members(label)
        if not (folder / member).is_file():
            raise FetchError(
                f"{label} : l'archive embarquée {self.archive.name} ne contient pas « {member} » ; {remedy}"
            )
        return _copy(folder / member, Ask(label, f"{self.name}:{self.archive.name}/{member}", limit, remedy), into)


class MirrorFolder(Transport):
    """A folder that holds each file at its declared ``chemin``."""

    name = "mirror"

    def __init__(self, folder: Path, package: Path = PACKAGE) -> None:
        super().__init__(package)
        self.folder = folder

    def _root(self, label: str) -> Path:
        if not self.folder.is_dir():
            remedy = "corriger « mirror:DOSSIER »"
            motif = f"{label} : le dossier du miroir n'existe pas ; {remedy}"
            raise FetchError(f"{label} : le dossier du miroir {self.folder} n'existe pas ; {remedy}", motif=motif)
        return self.folder

    def _provides(self, source: Source, livraison: Livraison) -> bool:
        return True

    def _expand(self, label: str, pattern: str) -> list[str]:
        return _in_folder(self._root(label), pattern)

    def _fetch(
        self, label: str, livraison: Livraison, chemin: str, limit: int, previous: Snapshot | None, into: Path
    ) -> Fetched:
        remedy = "le déposer sous ce chemin dans le miroir, ou corriger « mirror:DOSSIER »"
        path = _inside(self._root(label), chemin, label, remedy)
        # The folder's own place on this machine is nobody's business once the snapshot is published.
        return _copy(path, Ask(label, f"mirror:{self.folder.name}/{chemin}", limit, remedy), into)


class MirrorHttp(Transport):
    """A base URL that holds each file at its declared ``chemin`` and, for globs, an INVENTAIRE.csv."""

    name = "mirror"

    def __init__(self, base: str, http: Http | None = None, package: Path = PACKAGE) -> None:
        super().__init__(package)
        self.base, self.http = base, http or Http()
        self._inventory: list[str] | None = None

    def _url(self, chemin: str) -> str:
        parts = urlsplit(self.base)
        return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{quote(chemin, safe='/')}", fragment=""))

    def _provides(self, source: Source, livraison: Livraison) -> bool:
        return True

    def _expand(self, label: str, pattern: str) -> list[str]:
        if self._inventory is None:
            remedy = f"publier {INVENTAIRE} (séparateur « ; », première colonne « fichier ») ou prendre mirror:DOSSIER"
            ask = Ask(label, self._url(INVENTAIRE), 50_000_000, remedy)
            with tempfile.TemporaryDirectory(prefix="dk-inventaire-") as folder:
                try:
                    path = self.http.get(ask, Path(folder)).path
                except FetchError as error:
                    if error.statut_http not in (404, 410):
                        raise
                    raise ask.error(
                        f"le motif ne peut être développé : le miroir n'a pas de {INVENTAIRE}", remedy
                    ) from None
                try:
                    with path.open(encoding="utf-8-sig", newline="") as stream:
                        rows = [row[0] for row in csv.reader(stream, delimiter=";") if row]
                except (UnicodeDecodeError, csv.Error):
                    raise ask.error(f"{INVENTAIRE} illisible") from None
            if not rows or rows[0] != "fichier":
                raise ask.error(f"la première colonne de {INVENTAIRE} n'est pas « fichier »")
            self._inventory = rows[1:]
        return _matching(self._inventory, pattern)

    def _fetch(
        self, label: str, livraison: Livraison, chemin: str, limit: int, previous: Snapshot | None, into: Path
    ) -> Fetched:
        remedy = "le déposer sous ce chemin dans le miroir, ou corriger « mirror:URL »"
        return self.http.get(Ask(label, self._url(chemin), limit, remedy), into, previous)


@dataclass(frozen=True)
class _Resource:
    """What data.gouv.fr says of one resource: its stable id, its names, and what its file must be."""

    id: str
    names: tuple[str, ...]
    last_modified: str
    announced: tuple[str, str] | None

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> _Resource:
        checksum = facts.get("checksum") or {}
        kind, value = str(checksum.get("type") or "").lower(), str(checksum.get("value") or "")
        # Of a file hosted elsewhere the catalogue only knows what it saw once.
        hosted = facts.get("filetype") == "file" and kind in EMPREINTES and value
        path = unquote(urlsplit(str(facts.get("url") or "")).path)
        names = tuple(dict.fromkeys(filter(None, (PurePosixPath(path).name, str(facts.get("title") or "")))))
        return cls(str(facts["id"]), names, str(facts.get("last_modified") or ""), (kind, value) if hosted else None)


class Live(Transport):
    """The producer itself, by the interface that the delivery declares.

    ``bases`` replaces the scheme and host of a protocol and ``hotes`` adds hosts a redirect may lead to (tests).
    """

    name = "live"

    def __init__(
        self,
        http: Http | None = None,
        *,
        bases: Mapping[str, str] = BASES,
        hotes: Iterable[str] = (),
        package: Path = PACKAGE,
    ) -> None:
        super().__init__(package)
        self.http, self.bases, self.hotes = http or Http(), dict(BASES) | dict(bases), tuple(hotes)
        self._catalogues: dict[str, Any] = {}
        self._lock = threading.Lock()

    def url(self, livraison: Livraison) -> str:
        """Where the delivery's declared producer serves the file, when its declaration alone tells it."""
        return self._address(livraison.live)

    def _address(self, live: Any) -> str:
        base = self.bases.get(live.protocole, "").rstrip("/")
        if live.protocole == "data_gouv":
            return f"{base}/api/1/datasets/r/{quote(live.ressource, safe='')}"
        if live.protocole == "opendatasoft":
            portal = base or (live.portail if "://" in live.portail else f"https://{live.portail}")
            dataset = f"{portal.rstrip('/')}/api/explore/v2.1/catalog/datasets/{quote(live.jeu, safe='')}"
            if live.piece:
                return f"{dataset}/attachments/{quote(live.piece, safe='')}"
            query = {"use_labels": str(live.libelles).lower()} if live.export == "csv" else {}
            query |= {"where": live.filtre} if live.filtre else {}
            return f"{dataset}/exports/{live.export}" + (f"?{urlencode(query)}" if query else "")
        if live.protocole == "depot":
            return f"{base}/{live.depot}/raw/{quote(live.revision, safe='')}/{quote(live.fichier, safe='/')}"
        if not base:
            return live.url
        parts = urlsplit(live.url)
        return base + urlunsplit(("", "", parts.path, parts.query, ""))

    def _provides(self, source: Source, livraison: Livraison) -> bool:
        # A glob names many files of a mirror; only a data set can stand for them.
        live = livraison.live
        return live is not None and (not _is_glob(livraison.chemin) or bool(live.protocole == "data_gouv" and live.jeu and live.fichier))

    def _expand(self, label: str, pattern: str) -> list[str]:
        raise FetchError(f"{label} : le producteur sert un seul fichier, non un motif ; prendre mirror:DOSSIER")

    def _members_of(self, label: str, livraison: Livraison) -> list[str]:
        live = livraison.live
        if live is None or live.protocole != "data_gouv" or not live.jeu:
            return self._expand(label, livraison.chemin)
        folder = PurePosixPath(livraison.chemin).parent
        found = {name for item in self._resources(label, live) for name in item.names if fnmatch.fnmatchcase(name, live.fichier)}
        return _matching([(folder / name).as_posix() for name in found], livraison.chemin)

    def _newer(self, source: Source, pattern: str) -> list[str]:
        live, rule = source.meta.live, source.meta.suite
        if live is None or rule is None:
            return []
        declared = [item.millesime for item in source.meta.livraisons]
        if live.protocole == "data_gouv" and live.jeu and "{millesime}" in (live.fichier or ""):
            names = (name for item in self._resources(source.source_id, live) for name in item.names)
            found = {year for name in names if (year := rule.read(name, live.fichier))}
        elif live.protocole in ("https", "opendatasoft"):
            # Nothing lists these addresses: the next ones are tried, as far as they follow one another.
            latest = max(declared, key=lambda name: rule.livraison(name, None).publie_le)
            label = f"{source.source_id}, {pattern}"
            found = set()
            for millesime in rule.following(latest, A_SONDER):
                following = live.of(millesime, rule.chemin.replace("{millesime}", millesime))
                if not self.http.exists(Ask(label, self._address(following), 1, "", self._hosts(following))):
                    break
                found.add(millesime)
        else:
            found = set()
        return [rule.chemin.replace("{millesime}", millesime) for millesime in found]

    def _hosts(self, live: Any) -> frozenset[str]:
        return frozenset(h.lower() for h in (*HOTES.get(live.protocole, ()), *live.hotes, *self.hotes))

    def _catalogue(self, label: str, live: Any, url: str, remedy: str) -> Any:
        """A document of the producer's catalogue, asked once per run. Raises FetchError."""
        with self._lock:
            if url not in self._catalogues:
                ask = Ask(label, url, 50_000_000, remedy, self._hosts(live))
                try:
                    self._catalogues[url] = self.http.document(ask)
                except FetchError as error:
                    self._catalogues[url] = error
            found = self._catalogues[url]
        if isinstance(found, FetchError):
            raise found
        return found

    def _resources(self, label: str, live: Any) -> list[_Resource]:
        """Main resources of a data set of data.gouv.fr, page by page (API v2). Raises FetchError."""
        remedy = f"vérifier le jeu « {live.jeu} » sur data.gouv.fr (confiance {live.confiance}) ou prendre mirror:DOSSIER"
        url = f"{self.bases['data_gouv'].rstrip('/')}/api/2/datasets/{quote(live.jeu, safe='')}/resources/?page=1&page_size=50&type=main"
        found: list[_Resource] = []
        try:
            for _ in range(200):
                page = self._catalogue(label, live, url, remedy)
                found += [_Resource.of(item) for item in page["data"]]
                if not page.get("next_page"):
                    return found
                # Only the query of that address is taken: it must not lead elsewhere.
                url = urlunsplit(urlsplit(url)._replace(query=urlsplit(str(page["next_page"])).query))
        except (KeyError, TypeError, AttributeError):
            raise FetchError(f"{label} : le catalogue de data.gouv.fr a changé de forme ; {remedy}") from None
        raise FetchError(f"{label} : le jeu « {live.jeu} » a trop de ressources ; {remedy}")

    def _resource(self, label: str, live: Any, chemin: str, remedy: str) -> _Resource:
        """The resource of data.gouv.fr that holds the file. Raises FetchError when it is gone or cannot be told."""
        if live.ressource:
            url = f"{self.bases['data_gouv'].rstrip('/')}/api/2/datasets/resources/{quote(live.ressource, safe='')}/"
            with suppress(FetchError, KeyError, TypeError, AttributeError):
                return _Resource.of(self._catalogue(label, live, url, remedy)["resource"])
            # The checksum needs the catalogue; the stable link does not, and tells by itself that the resource is gone.
            return _Resource(live.ressource, (), "", None)
        wanted = PurePosixPath(chemin).name if _is_glob(live.fichier) else live.fichier
        found = self._resources(label, live)
        exact = [item for item in found if wanted in item.names or wanted.removesuffix(".gz") in item.names]
        hits = exact or [item for item in found if any(fnmatch.fnmatchcase(name, live.fichier) for name in item.names)]
        if not hits:
            names = ", ".join(sorted(name for item in found for name in item.names[:1])[:8]) or "rien"
            raise FetchError(
                f"{label} : aucune ressource du jeu « {live.jeu} » ne s'appelle « {live.fichier} » ; il contient {names} ; {remedy}"
            )
        return max(hits, key=lambda item: (item.last_modified, item.id))

    def _ask(self, label: str, live: Any, chemin: str, limit: int) -> Ask:
        remedy = (
            f"corriger le lien « live » de cette livraison (confiance {live.confiance}) dans sa déclaration, "
            "ou prendre mirror:DOSSIER"
        )
        hosts = self._hosts(live)
        if live.protocole == "data_gouv":
            resource = self._resource(label, live, chemin, remedy)
            address = self._address(live.model_copy(update={"ressource": resource.id}))
            return Ask(label, address, limit, remedy, hosts, announced=resource.announced)
        if live.protocole == "melodi":
            url = f"{self.bases['melodi'].rstrip('/')}/melodi/catalog/{quote(live.jeu, safe='')}"
            try:
                products = self._catalogue(label, live, url, remedy)["product"]
                hits = [str(item["id"]) for item in products if fnmatch.fnmatchcase(str(item["id"]), live.fichier)]
            except (KeyError, TypeError):
                raise FetchError(f"{label} : le catalogue Melodi a changé de forme ; {remedy}") from None
            if not hits:
                known = ", ".join(str(item.get("id")) for item in products[:8])
                raise FetchError(f"{label} : aucun produit de {live.jeu} ne s'appelle « {live.fichier} » ; il y a {known} ; {remedy}")
            place = f"/melodi/file/{quote(live.jeu, safe='')}/{quote(max(hits), safe='')}"
            return Ask(label, self.bases["melodi"].rstrip("/") + place, limit, remedy, hosts)
        return Ask(label, self._address(live), limit, remedy, hosts)

    def _fetch(
        self, label: str, livraison: Livraison, chemin: str, limit: int, previous: Snapshot | None, into: Path
    ) -> Fetched:
        live = livraison.live
        if live is None:
            raise FetchError(f"{label} : aucun lien « live » n'est déclaré ; le déclarer, ou prendre mirror:DOSSIER")
        return self.http.get(self._ask(label, live, chemin, limit), into, previous)


class Register(Transport):
    """The admitted records of the installation, ``DK_HOME/registre``, whatever the transport of the run.

    An empty register lists no file, which is no failure: nobody sent anything yet.
    """

    name = "registre"

    def __init__(self, folder: Path, package: Path = PACKAGE) -> None:
        super().__init__(package)
        self.folder = folder

    def provides(self, source: Source, livraison: Livraison) -> bool:
        return livraison.registre

    def list_files(self, source: Source, livraison: Livraison) -> list[str]:
        _check_chemin(self._label(source, livraison, livraison.chemin), livraison.chemin)
        return self._expand("", livraison.chemin)

    def _provides(self, source: Source, livraison: Livraison) -> bool:
        return livraison.registre

    def _expand(self, label: str, pattern: str) -> list[str]:
        return _in_folder(self.folder, pattern)

    def _fetch(
        self, label: str, livraison: Livraison, chemin: str, limit: int, previous: Snapshot | None, into: Path
    ) -> Fetched:
        remedy = "le rendre au registre depuis une sauvegarde, ou déposer à nouveau le fichier d'origine"
        path = _inside(self.folder, chemin, label, remedy)
        return replace(_copy(path, Ask(label, f"registre:{chemin}", limit, remedy), into), transport=self.name)


class Demonstration(Transport):
    """The demonstration world: generated from its seed, admitted by the same checks as what people send."""

    name = "embedded"

    def __init__(self, where: Home, package: Path = PACKAGE) -> None:
        super().__init__(package)
        self.where = where

    def provides(self, source: Source, livraison: Livraison) -> bool:
        return livraison.demonstration

    def _provides(self, source: Source, livraison: Livraison) -> bool:
        return livraison.demonstration

    def _expand(self, label: str, pattern: str) -> list[str]:
        raise FetchError(f"{label} : une livraison de démonstration est un seul fichier ; corriger « chemin »")

    def _fetch(
        self, label: str, livraison: Livraison, chemin: str, limit: int, previous: Snapshot | None, into: Path
    ) -> Fetched:
        from ingestion.records.admission import demonstration

        remedy = "corriger « chemin », ou retirer la livraison de démonstration de la déclaration"
        path = _inside(demonstration(self.where), chemin, label, remedy)
        return _copy(path, Ask(label, f"demonstration:{chemin}", limit, remedy), into)


def carrier(transport: Transport, livraison: Livraison, where: Home) -> Transport:
    """Who brings a delivery in a run that asked for ``transport``: the register for ``registre`` deliveries, the
    demonstration world for ``demonstration`` ones if the run is embedded, and ``transport`` itself for all others."""
    if livraison.registre:
        return Register(where.registre, transport.package)
    if livraison.demonstration and isinstance(transport, Embedded):
        return Demonstration(where, transport.package)
    return transport


def parse_transport(text: str) -> Transport:
    """The transport that a user named: ``embedded``, ``mirror:FOLDER``, ``mirror:https://…`` or ``live``.

    Raises ValueError, in French, for anything else. Nothing is opened here.
    """
    kind, _, place = text.strip().partition(":")
    if text.strip() == "embedded":
        return Embedded()
    if text.strip() == "live":
        return Live()
    if kind == "mirror" and place:
        with suppress(ValueError):  # an address that cannot be split is told below
            if place.lower().startswith(("http://", "https://")) and urlsplit(place).hostname:
                return MirrorHttp(place)
        if "://" not in place:
            return MirrorFolder(Path(place).expanduser().absolute())
    shown = f"{kind}:{redact(place)}" if "://" in place else text
    raise ValueError(f"transport « {shown} » inconnu : écrire embedded, mirror:DOSSIER, mirror:https://… ou live")

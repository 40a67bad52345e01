"""Grist and Démarches simplifiées as their published documentation describes them, on ``tests.server``.

    grist = FakeGrist(server, jeton="…")
    grist.table("doc", "Conventions", {"Identifiant": "Text"}, [{"Identifiant": "23-1"}])
    ds = FakeDemarches(server, jeton="…", numero=12345, champs={"Thème": "Q1"})
    ds.dossier(1, {"Thème": "habitat"}, "2026-01-01T08:00:00+01:00")

``hiccups`` of each holds answers given before the true one, in order. Both repeat the token that they refuse in their
error messages, as a careless server would.
"""

from __future__ import annotations

import datetime as dt
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from tests.server import Request, Response, Server

JSON = {"Content-Type": "application/json; charset=utf-8"}


def as_json(document: Any, status: int = 200) -> Response:
    return Response(status=status, body=json.dumps(document, ensure_ascii=False).encode(), headers=dict(JSON))


class _Service:
    def __init__(self, jeton: str) -> None:
        self.jeton = jeton
        self.hiccups: list[Response] = []
        self.before: Callable[[Request], None] = lambda request: None  # what happens at the source between two requests
        self._lock = threading.Lock()

    def _given(self, request: Request) -> str:
        return request.headers.get("authorization", "").removeprefix("Bearer ")

    def _hiccup(self) -> Response | None:
        with self._lock:
            return self.hiccups.pop(0) if self.hiccups else None


class FakeGrist(_Service):
    """https://support.getgrist.com/api/: listColumns and listRecords of the tables it was given."""

    def __init__(self, server: Server, jeton: str) -> None:
        super().__init__(jeton)
        self.columns: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
        self.records: dict[tuple[str, str], list[dict[str, Any]]] = {}
        server.route("/api/docs/", self._answer)

    def table(
        self, document: str, table: str, columns: dict[str, str], rows: list[dict[str, Any]], labels: dict[str, str] | None = None
    ) -> None:
        """Columns: identifier → Grist type; rows: one dict per record, whose ids are then 1, 2, 3…"""
        labels = labels or {}
        self.columns[document, table] = {
            name: {"type": kind, "label": labels.get(name, name), "isFormula": False} for name, kind in columns.items()
        }
        self.records[document, table] = [
            {"id": rank, "fields": {name: row.get(name) for name in columns}} for rank, row in enumerate(rows, 1)
        ]

    def _answer(self, request: Request) -> Response:
        self.before(request)
        if (answer := self._hiccup()) is not None:
            return answer
        if self._given(request) != self.jeton:
            return as_json({"error": f"Invalid API key {self._given(request)}"}, 401)
        _, _, _, document, _, table, what = request.path.split("/")
        if (document, table) not in self.columns:
            return as_json({"error": f"Table not found {table}"}, 404)
        if what == "columns":
            return as_json({"columns": [{"id": n, "fields": f} for n, f in self.columns[document, table].items()]})
        rows = self.records[document, table]
        if parse_qs(request.query).get("sort") == ["id"]:
            rows = sorted(rows, key=lambda row: row["id"])
        return as_json({"records": rows})


@dataclass
class Dossier:
    number: int
    champs: dict[str, Any]
    change: str
    state: str = "en_instruction"
    annotations: dict[str, Any] = field(default_factory=dict)
    depot: str = "2025-12-01T09:00:00+01:00"


class FakeDemarches(_Service):
    """https://doc.demarches-simplifiees.fr/api-graphql/: getDemarche with its three connections, 100 nodes at most."""

    def __init__(
        self, server: Server, jeton: str, numero: int, champs: dict[str, str], annotations: dict[str, str] | None = None
    ) -> None:
        super().__init__(jeton)
        self.numero, self.champs, self.annotations = numero, champs, annotations or {}
        self.anciens: dict[str, str] = {}  # labels that only older revisions have
        self.dossiers: dict[int, Dossier] = {}
        self.deleted: dict[int, str] = {}
        self.pending: dict[int, str] = {}
        self.asked: list[dict[str, Any]] = []
        server.route("/api/v2/graphql", self._answer)

    def dossier(self, number: int, champs: dict[str, Any], change: str, **facts: Any) -> None:
        self.dossiers[number] = Dossier(number, champs, change, **facts)

    def delete(self, number: int, when: str) -> None:
        del self.dossiers[number]
        self.deleted[number] = when

    @staticmethod
    def error(code: str, message: str) -> Response:
        return as_json({"data": None, "errors": [{"message": message, "extensions": {"code": code}}]})

    def _answer(self, request: Request) -> Response:
        self.before(request)
        if (answer := self._hiccup()) is not None:
            return answer
        if request.method != "POST" or request.headers.get("content-type") != "application/json":
            return as_json({"errors": [{"message": "POST application/json"}], "data": None}, 400)
        body = json.loads(request.body)
        variables, query = body["variables"], body["query"]
        self.asked.append(variables)
        if self._given(request) != self.jeton:
            return self.error("unauthorized", f"An object of type Demarche was hidden from {self._given(request)}")
        if variables["demarcheNumber"] != self.numero:
            return self.error("not_found", "Demarche not found")
        first = min(variables.get("first") or 100, 100)
        demarche: dict[str, Any] = {}
        if "deletedDossiers(" in query:
            demarche["deletedDossiers"] = self._page(self._gone(self.deleted, variables), first, variables["after"])
        elif "pendingDeletedDossiers(" in query:
            demarche["pendingDeletedDossiers"] = self._page(self._gone(self.pending, variables), first, variables["after"])
        else:
            demarche["activeRevision"] = {
                "champDescriptors": [{"id": i, "label": label} for label, i in self.champs.items()],
                "annotationDescriptors": [{"id": i, "label": label} for label, i in self.annotations.items()],
            }
            since = instant(variables["updatedSince"])
            wanted = sorted(
                (d for d in self.dossiers.values() if instant(d.change) >= since), key=lambda d: (instant(d.change), d.number)
            )
            nodes = [
                (f"{instant(d.change).isoformat()};{d.number:09d}", self._node(d))
                for d in wanted
            ]
            demarche["dossiers"] = self._page(nodes, first, variables["after"])
        return as_json({"data": {"demarche": demarche}})

    @staticmethod
    def _gone(numbers: dict[int, str], variables: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        since = instant(variables["deletedSince"])
        return [(f"{number:09d}", {"number": number}) for number, when in sorted(numbers.items()) if instant(when) >= since]

    def _node(self, dossier: Dossier) -> dict[str, Any]:
        return {
            "number": dossier.number, "state": dossier.state, "dateDepot": dossier.depot,
            "dateDerniereModification": dossier.change, "dateTraitement": None,
            "champs": [champ((self.champs | self.anciens).get(label, f"?{label}"), label, v) for label, v in dossier.champs.items()],
            "annotations": [champ(self.annotations[label], label, value) for label, value in dossier.annotations.items()],
        }  # fmt: skip

    @staticmethod
    def _page(nodes: list[tuple[str, dict[str, Any]]], first: int, after: str | None) -> dict[str, Any]:
        rest = [(cursor, node) for cursor, node in nodes if after is None or cursor > after]
        page = rest[:first]
        return {
            "pageInfo": {"hasNextPage": len(rest) > first, "endCursor": page[-1][0] if page else None},
            "nodes": [node for _, node in page],
        }


def instant(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).astimezone(dt.UTC)


def champ(identifier: str, label: str, value: Any) -> dict[str, Any]:
    """A field as the documented fragments give it: dates and numbers in typed fields, dates in words in stringValue."""
    found = {"__typename": "TextChamp", "id": identifier, "label": label, "stringValue": value}
    if isinstance(value, bool):
        return found | {"__typename": "CheckboxChamp", "stringValue": str(value).lower(), "checked": value}
    if isinstance(value, dt.date):
        return found | {"__typename": "DateChamp", "stringValue": f"{value.day:02d} ?? {value.year}", "date": value.isoformat()}
    if isinstance(value, int):
        return found | {"__typename": "IntegerNumberChamp", "stringValue": str(value), "integerNumber": str(value)}
    if isinstance(value, float):
        return found | {"__typename": "DecimalNumberChamp", "stringValue": str(value), "decimalNumber": value}
    if isinstance(value, tuple):
        name, code = value
        return found | {"__typename": "CommuneChamp", "stringValue": name, "commune": {"code": code}}
    return found

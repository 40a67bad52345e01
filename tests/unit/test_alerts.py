"""Alerts: what is told, once, by which channel, and what never leaves the machine. Servers are local and real."""

from __future__ import annotations

import asyncio
import base64
import email
import email.policy
import json
import ssl
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import trustme

from orchestration import alerts
from tests.server import Response, Server, free_port

SOURCE = dg.AssetKey(["landing", "insee", "chomage"])
CONTROLES = [dg.AssetCheckKey(SOURCE, name) for name in ("collecte", "fraicheur")]
VALEUR = "Madame Durand, 3 demandes"


class Smtp:
    """A server of e-mail that takes what it is sent, or refuses it, on a free port of 127.0.0.1.

    With an authority it speaks TLS, at once or when it is asked to (``starttls``), and then takes an account.
    """

    def __init__(self, ca: trustme.CA | None = None, starttls: bool = False) -> None:
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if ca else None
        if ca and self._tls:
            ca.issue_cert("127.0.0.1").configure_cert(self._tls)
        self._starttls = starttls
        self.clear: list[bytes] = []  # verbs that came before TLS
        self.received: list[EmailMessage] = []
        self.refuses = False
        self.silent = False
        self._loop = asyncio.new_event_loop()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.silent:
            await asyncio.sleep(30)
        writer.write(b"220 essai\r\n")
        while line := await reader.readline():
            verb = line.split()[0].upper() if line.split() else b""
            if writer.get_extra_info("sslcontext") is None:
                self.clear.append(verb)
            if verb == b"STARTTLS" and self._tls:
                writer.write(b"220 allez\r\n")
                await writer.drain()
                await writer.start_tls(self._tls)
                continue
            if verb == b"AUTH":
                self.account = base64.b64decode(line.split()[2]).decode()
                writer.write(b"235 reconnu\r\n")
                continue
            if verb == b"DATA":
                writer.write(b"354 fin par un point\r\n")
                body = b""
                while (part := await reader.readline()) != b".\r\n":
                    body += part.removeprefix(b".")
                self.received.append(email.message_from_bytes(body, policy=email.policy.default))
            elif verb == b"QUIT":
                writer.write(b"221 au revoir\r\n")
                break
            elif verb == b"MAIL" and self.refuses:
                writer.write(b"550 expediteur inconnu\r\n")
                continue
            if verb == b"EHLO":
                writer.write(b"250-essai\r\n250-AUTH PLAIN\r\n" + (b"250-STARTTLS\r\n" if self._starttls else b"") + b"250 8BITMIME\r\n")
            elif verb != b"DATA":
                writer.write(b"250 oui\r\n")
            else:
                writer.write(b"250 pris\r\n")
        writer.close()

    def __enter__(self) -> Smtp:
        server = self._loop.run_until_complete(asyncio.start_server(self._talk, "127.0.0.1", 0, ssl=None if self._starttls else self._tls))
        self.port = server.sockets[0].getsockname()[1]
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as found:
        yield found


def landing(collecte: str | None = None, fraicheur: str | None = None, boom: Exception | None = None) -> dg.AssetsDefinition:
    """A source as the graph declares them; a text makes its check fail with it."""

    @dg.asset(key=SOURCE, check_specs=[dg.AssetCheckSpec(k.name, asset=SOURCE) for k in CONTROLES])
    def asset() -> dg.MaterializeResult:
        if boom:
            raise boom
        told = {"collecte": collecte, "fraicheur": fraicheur}
        return dg.MaterializeResult(
            check_results=[
                dg.AssetCheckResult(
                    check_name=name, passed=text is None, severity=dg.AssetCheckSeverity.WARN, metadata={"alerte": text, "valeurs": VALEUR} if text else {}
                )
                for name, text in told.items()
            ]
        )

    return asset


def run(instance: dg.DagsterInstance, *assets: dg.AssetsDefinition) -> dg.ExecuteInProcessResult:
    return dg.materialize(list(assets), instance=instance, raise_on_error=False)


def tick(instance: dg.DagsterInstance, channel: str, cursor: str | None) -> dg.SensorResult | dg.SkipReason:
    sensor = next(s for s in alerts.sensors([SOURCE], CONTROLES) if s.name == f"alertes_{channel}")
    return sensor(dg.build_sensor_context(instance=instance, cursor=cursor))


def told(instance: dg.DagsterInstance, cursor: str | None) -> tuple[list[str], str]:
    found, after = alerts.pending(instance, cursor, [SOURCE], CONTROLES)
    return [str(alerte) for alerte in found], after


# --- what is told -----------------------------------------------------------------------------------------------


def test_a_failed_check_is_told_once_and_again_only_for_another_reason(instance: dg.DagsterInstance) -> None:
    run(instance, landing())
    first, cursor = told(instance, None)
    assert first == []
    run(instance, landing(collecte="insee__chomage : 1 fichier(s) non obtenu(s) ; 4200 lignes restent en place. HTTP 503 ; réessayer"))
    second, cursor = told(instance, cursor)
    assert second == ["Contrôle non réussi : insee__chomage : 1 fichier(s) non obtenu(s) ; 4200 lignes restent en place. HTTP 503 ; réessayer"]
    # The next day, with other counts: the same event.
    run(instance, landing(collecte="insee__chomage : 2 fichier(s) non obtenu(s) ; 4100 lignes restent en place. HTTP 503 ; réessayer"))
    again, cursor = told(instance, cursor)
    assert again == []
    run(instance, landing(collecte="insee__chomage : colonne « taux » absente"))
    other, cursor = told(instance, cursor)
    assert len(other) == 1
    # Mended, then broken as before: a new event.
    run(instance, landing())
    mended, cursor = told(instance, cursor)
    assert mended == []
    run(instance, landing(collecte="insee__chomage : colonne « taux » absente"))
    assert len(told(instance, cursor)[0]) == 1


def test_a_stale_source_is_named_as_such(instance: dg.DagsterInstance) -> None:
    run(instance, landing(fraicheur="insee__chomage : périmée. La dernière livraison (2019) est publiée le 2020-01-01"))
    found, _ = told(instance, None)
    assert found == ["Source périmée : insee__chomage : périmée. La dernière livraison (2019) est publiée le 2020-01-01"]


def test_a_failed_run_tells_what_its_step_declared_and_nothing_else(instance: dg.DagsterInstance) -> None:
    _, cursor = told(instance, None)
    failure = dg.Failure(VALEUR, allow_retries=False, metadata={"alerte": "insee__chomage : disque plein ; libérer de la place"})
    run(instance, landing(boom=failure))
    run(instance, landing(boom=ValueError(VALEUR)))
    found, cursor = told(instance, cursor)
    assert len(found) == 2 and all(text.startswith("Exécution en panne : ") for text in found)
    assert "insee__chomage : disque plein ; libérer de la place" in found[0]
    assert "arrêtée par ValueError ; lire le message" in found[1]
    assert not any("Durand" in text for text in found)
    assert told(instance, cursor)[0] == []


def test_runs_that_failed_before_the_alerts_were_set_are_not_told(instance: dg.DagsterInstance) -> None:
    run(instance, landing(boom=ValueError("hier")))
    first, cursor = told(instance, None)
    assert first == []
    run(instance, landing(boom=ValueError("aujourd'hui")))
    assert len(told(instance, cursor)[0]) == 1


def test_a_refused_publication_is_one_event_with_its_checks(instance: dg.DagsterInstance) -> None:
    @dg.asset(
        key=["release", "candidat"],
        check_specs=[dg.AssetCheckSpec("porte_de_publication", asset=["release", "candidat"], blocking=True)],
    )
    def candidat() -> dg.MaterializeResult:
        return dg.MaterializeResult(
            check_results=[
                dg.AssetCheckResult(
                    check_name="porte_de_publication", passed=False,
                    metadata={"alerte": "2 contrôle(s) bloquant(s) : fct_observation / cles_en_double ; dim_source / lignes", "lignes_en_cause": VALEUR},
                )
            ]
        )  # fmt: skip

    @dg.asset(key=["release", "publication"], deps=[candidat])
    def publication() -> None: ...

    keys = [*CONTROLES, dg.AssetCheckKey(dg.AssetKey(["release", "candidat"]), "porte_de_publication")]
    _, cursor = alerts.pending(instance, None, [SOURCE], keys)
    assert not run(instance, candidat, publication).success
    found, _ = alerts.pending(instance, cursor, [SOURCE], keys)
    assert [a.nature for a in found] == ["Publication refusée"]
    assert "2 contrôle(s) bloquant(s) : fct_observation / cles_en_double ; dim_source / lignes" in found[0].texte
    assert "la publication précédente reste en place" in found[0].texte and "Durand" not in found[0].texte


def test_a_source_that_was_not_collected_is_told_by_its_freshness_policy(instance: dg.DagsterInstance) -> None:
    from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange

    _, cursor = told(instance, None)
    instance._report_runless_asset_event(
        FreshnessStateChange(key=SOURCE, new_state=FreshnessState.FAIL, previous_state=FreshnessState.PASS, state_change_timestamp=1.0)
    )
    found, cursor = told(instance, cursor)
    assert len(found) == 1 and found[0].startswith("Source non collectée : insee__chomage n'a pas été collectée à sa date")
    assert told(instance, cursor)[0] == []


def test_a_bad_morning_is_one_message_that_stays_short(instance: dg.DagsterInstance) -> None:
    many = [alerts.Alerte("Contrôle non réussi", f"source {n} : " + "x" * 5000) for n in range(200)]
    text = alerts.message(many)
    assert text.startswith("200 alertes : Contrôle non réussi\n")
    assert len(text) < alerts.LIGNES * (alerts.CARACTERES + 60) + 500 and "et 170 autres" in text


# --- channels ---------------------------------------------------------------------------------------------------


@pytest.fixture
def panne(instance: dg.DagsterInstance) -> tuple[dg.DagsterInstance, str]:
    """An instance with one event to tell, and the cursor before it."""
    _, cursor = told(instance, None)
    run(instance, landing(collecte="insee__chomage : 1 fichier(s) non obtenu(s) ; 4200 lignes restent en place"))
    return instance, cursor


def test_webhook_gets_the_event_once(panne: tuple[dg.DagsterInstance, str], monkeypatch: pytest.MonkeyPatch) -> None:
    instance, cursor = panne
    with Server() as server:
        server.script("/hooks/secret", [Response(body=b"ok")])
        monkeypatch.setenv("DK_ALERTES_WEBHOOK", f"{server.url}/hooks/secret")
        monkeypatch.setenv("DK_INTERFACE", "http://dagster.interne:3000/")
        after = tick(instance, "webhook", cursor).cursor
        tick(instance, "webhook", after)
        assert server.paths == ["/hooks/secret"]
        sent = json.loads(server.requests[0].body)
    assert "insee__chomage : 1 fichier(s) non obtenu(s) ; 4200 lignes restent en place" in sent["text"]
    assert sent["evenements"][0]["lien"] == "http://dagster.interne:3000/assets/landing/insee/chomage?view=checks"
    assert "Durand" not in json.dumps(sent, ensure_ascii=False)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Response(status=500), "réponse HTTP 500"),
        (Response(status=404), "réponse HTTP 404"),
        (Response.redirect("http://ailleurs.example/"), "réponse HTTP 302"),
        (Response(delay=30), "ReadTimeout"),
        (Response(reset=True), "ConnectionError"),
    ],
    ids=["500", "404", "redirection", "muet", "coupé"],
)
def test_webhook_that_fails_is_tried_again_and_its_address_is_not_told(
    answer: Response, why: str, panne: tuple[dg.DagsterInstance, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    instance, cursor = panne
    monkeypatch.setattr(alerts, "DELAI_S", 0.3)
    with Server() as server:
        server.script("/hooks/secret", [answer, Response()])
        monkeypatch.setenv("DK_ALERTES_WEBHOOK", f"{server.url}/hooks/secret")
        with pytest.raises(alerts.AlertError) as caught:
            tick(instance, "webhook", cursor)
        assert why in str(caught.value) and "/hooks" not in "".join(traceback.format_exception(caught.value))
        # Dagster keeps the cursor of a tick that failed: the event is told by the next one.
        assert tick(instance, "webhook", cursor).cursor != cursor
        assert len(server.requests) == 2


def test_mail_says_who_what_and_what_to_do(panne: tuple[dg.DagsterInstance, str], mailing: Callable[..., Smtp]) -> None:
    instance, cursor = panne
    with mailing() as smtp:
        after = tick(instance, "courriel", cursor).cursor
        tick(instance, "courriel", after)
        assert len(smtp.received) == 1
    mail = smtp.received[0]
    assert mail["Subject"] == "[Dernier kilomètre] 1 alerte : Contrôle non réussi"
    assert (mail["To"], mail["From"]) == ("garde@exemple.fr, chef@exemple.fr", "entrepot@exemple.fr")
    body = mail.get_content()
    assert "insee__chomage : 1 fichier(s) non obtenu(s) ; 4200 lignes restent en place" in body and "PANNES.md" in body


def test_mail_refused_by_its_server_is_tried_again(panne: tuple[dg.DagsterInstance, str], mailing: Callable[..., Smtp]) -> None:
    instance, cursor = panne
    with mailing() as smtp:
        smtp.refuses = True
        with pytest.raises(alerts.AlertError, match="refus 550"):
            tick(instance, "courriel", cursor)
        smtp.refuses = False
        tick(instance, "courriel", cursor)
        assert len(smtp.received) == 1


def test_mail_server_that_is_silent_or_gone_does_not_hold_the_daemon(
    panne: tuple[dg.DagsterInstance, str], mailing: Callable[..., Smtp], monkeypatch: pytest.MonkeyPatch
) -> None:
    instance, cursor = panne
    monkeypatch.setattr(alerts, "DELAI_S", 0.3)
    with mailing() as smtp:
        smtp.silent = True
        with pytest.raises(alerts.AlertError, match="SMTPServerDisconnected"):
            tick(instance, "courriel", cursor)
    monkeypatch.setenv("DK_SMTP_SERVEUR", f"127.0.0.1:{free_port()}")
    with pytest.raises(alerts.AlertError, match="ConnectionRefusedError"):
        tick(instance, "courriel", cursor)


@pytest.mark.parametrize("mode", ["starttls", "tls"])
def test_mail_goes_by_tls_to_a_server_that_is_vouched_for(
    mode: str, panne: tuple[dg.DagsterInstance, str], mailing: Callable[..., Smtp], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    instance, cursor = panne
    ca = trustme.CA()
    with mailing(ca, mode == "starttls") as smtp:
        for name, value in {"CHIFFREMENT": mode, "COMPTE": "dk", "MOT_DE_PASSE": "s3cret"}.items():
            monkeypatch.setenv(f"DK_SMTP_{name}", value)
        with pytest.raises(alerts.AlertError) as caught:
            tick(instance, "courriel", cursor)
        assert "SSLCertVerificationError" in str(caught.value) and "s3cret" not in str(caught.value) and not smtp.received
        ca.cert_pem.write_to_path(tmp_path / "ca.pem")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        tick(instance, "courriel", cursor)
        assert len(smtp.received) == 1 and smtp.account == "\0dk\0s3cret"
        assert not {b"AUTH", b"MAIL", b"DATA"} & set(smtp.clear)


@pytest.fixture
def mailing(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Smtp]:
    @contextmanager
    def start(*options: Any) -> Iterator[Smtp]:
        with Smtp(*options) as smtp:
            for name, value in {
                "ALERTES_COURRIEL": "garde@exemple.fr, chef@exemple.fr", "SMTP_SERVEUR": f"127.0.0.1:{smtp.port}",
                "SMTP_EXPEDITEUR": "entrepot@exemple.fr", "SMTP_CHIFFREMENT": "aucun",
            }.items():  # fmt: skip
                monkeypatch.setenv(f"DK_{name}", value)
            yield smtp

    return start


def test_channels_are_independent(
    panne: tuple[dg.DagsterInstance, str], mailing: Callable[..., Smtp], monkeypatch: pytest.MonkeyPatch
) -> None:
    instance, cursor = panne
    monkeypatch.setenv("DK_ALERTES_WEBHOOK", f"http://127.0.0.1:{free_port()}/")
    with mailing() as smtp:
        with pytest.raises(alerts.AlertError, match="ConnectionError"):
            tick(instance, "webhook", cursor)
        tick(instance, "courriel", cursor)
        assert len(smtp.received) == 1


# --- settings ---------------------------------------------------------------------------------------------------


def test_nothing_is_sent_and_sensors_are_off_when_nothing_is_set(
    panne: tuple[dg.DagsterInstance, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DK_ALERTES_WEBHOOK", "DK_ALERTES_COURRIEL"):
        monkeypatch.delenv(name, raising=False)
    instance, cursor = panne
    for sensor in alerts.sensors([SOURCE], CONTROLES):
        assert sensor.default_status == dg.DefaultSensorStatus.STOPPED
        assert isinstance(sensor(dg.build_sensor_context(instance=instance, cursor=cursor)), dg.SkipReason)
    monkeypatch.setenv("DK_ALERTES_WEBHOOK", "https://exemple.fr/x")
    assert alerts.sensors([SOURCE], CONTROLES)[0].default_status == dg.DefaultSensorStatus.RUNNING


SMTP = {"DK_ALERTES_COURRIEL": "a@b.fr", "DK_SMTP_SERVEUR": "smtp.b.fr:587"}


@pytest.mark.parametrize(
    ("environment", "why"),
    [
        ({"DK_ALERTES_WEBHOOK": "ftp://b.fr/s3cret"}, "n'est pas une adresse https"),
        ({"DK_ALERTES_WEBHOOK": "http://b.fr/s3cret"}, "n'est pas une adresse https"),
        ({"DK_ALERTES_WEBHOOK": "https://[s3cret"}, "n'est pas une adresse https"),
        ({"DK_ALERTES_COURRIEL": "a@b.fr"}, "DK_SMTP_SERVEUR"),
        (SMTP | {"DK_SMTP_SERVEUR": "smtp.b.fr"}, "DK_SMTP_SERVEUR"),
        (SMTP | {"DK_SMTP_CHIFFREMENT": "peut-être"}, "starttls, tls, aucun"),
        (SMTP | {"DK_SMTP_EXPEDITEUR": "a@b.fr\nBcc: tous@b.fr"}, "mal écrite"),
        (SMTP | {"DK_SMTP_COMPTE": "s3cret"}, "vont ensemble"),
        (SMTP | {"DK_SMTP_COMPTE": "dk", "DK_SMTP_MOT_DE_PASSE": "s3cret", "DK_SMTP_CHIFFREMENT": "aucun"}, "en clair"),
    ],
)
def test_settings_that_cannot_work_say_so_without_their_secrets(environment: dict[str, str], why: str) -> None:
    channel = alerts.webhook if "DK_ALERTES_WEBHOOK" in environment else alerts.courriel
    with pytest.raises(alerts.AlertError) as caught:
        channel(environment)
    assert why in str(caught.value) and "s3cret" not in str(caught.value)


def test_secrets_are_not_in_what_may_be_logged() -> None:
    mail = alerts.courriel(SMTP | {"DK_SMTP_COMPTE": "dk", "DK_SMTP_MOT_DE_PASSE": "s3cret"})
    hook = alerts.webhook({"DK_ALERTES_WEBHOOK": "https://b.fr/hooks/s3cret"})
    assert mail and hook and "s3cret" not in repr(mail) + repr(hook)
    assert mail.chiffrement == "starttls" and mail.mot_de_passe == "s3cret"


def test_doctor_says_whether_anybody_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner

    from orchestration.cli import main

    monkeypatch.setenv("DK_HOME", str(tmp_path / "dk"))
    for name in ("DK_ALERTES_WEBHOOK", "DK_ALERTES_COURRIEL"):
        monkeypatch.delenv(name, raising=False)
    assert "note    aucune alerte réglée" in CliRunner().invoke(main, ["doctor"]).output
    monkeypatch.setenv("DK_ALERTES_WEBHOOK", "https://b.fr/hooks/s3cret")
    right = CliRunner().invoke(main, ["doctor"]).output
    assert "bon     alertes par webhook" in right and "s3cret" not in right
    monkeypatch.setenv("DK_ALERTES_COURRIEL", "a@b.fr")
    half = CliRunner().invoke(main, ["doctor"]).output
    assert "MANQUE  alertes par courriel" in half and "DK_SMTP_SERVEUR" in half and "bon     alertes par webhook" in half

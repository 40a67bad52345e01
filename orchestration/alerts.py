"""Alerts of the installation, by webhook and by e-mail: one Dagster sensor for each, off until the environment sets it.

An event is told once by each channel: a run that failed, a publication that was refused, a check that began to fail or
fails for another reason, a collection that did not take place. What happened since the last tick goes into one message, so
that a bad morning is one message and not forty. A message that could not be sent leaves the cursor where it was, and the
next tick tries again. Only what a step declared as ``alerte`` leaves the machine: never a message of an exception, never
a row.

Environment: ``DK_ALERTES_WEBHOOK`` (address that takes ``{"text": …}``, as Mattermost, Slack and their kind do);
``DK_ALERTES_COURRIEL`` (recipients, with commas), ``DK_SMTP_SERVEUR`` (``host:port``), ``DK_SMTP_EXPEDITEUR``,
``DK_SMTP_CHIFFREMENT`` (``starttls``, the default, ``tls`` or ``aucun``), ``DK_SMTP_COMPTE`` and ``DK_SMTP_MOT_DE_PASSE``;
``DK_INTERFACE`` (address of Dagster's interface, for links).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import dagster as dg

DELAI_S = 10  # of each exchange with the server that takes the message
LIGNES = 30  # events told in full in one message
CARACTERES = 700  # of one event
CANDIDAT = {"entrepot", "release__candidat", "release__publication"}
CHIFFREMENTS = ("starttls", "tls", "aucun")
LOCAL = {"localhost", "127.0.0.1", "::1"}


class AlertError(RuntimeError):
    """A channel is not well set, or its server did not take the message; the text holds no secret."""


@dataclass(frozen=True)
class Alerte:
    """One event. ``nature`` and ``texte`` are French; ``lien`` leads to it in the interface, or is empty."""

    nature: str
    texte: str
    lien: str = ""

    def __str__(self) -> str:
        text = " ".join(self.texte.split())
        return f"{self.nature} : {text[:CARACTERES]}{'…' if len(text) > CARACTERES else ''}{f' ({self.lien})' if self.lien else ''}"


# --- channels ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Webhook:
    """Posts ``{"text", "evenements"}`` as JSON; the path of the address often is the secret, so only its host is told."""

    adresse: str = field(repr=False)

    def send(self, alertes: Sequence[Alerte]) -> None:
        import requests

        document = {"text": message(alertes), "evenements": [{"nature": a.nature, "texte": a.texte, "lien": a.lien} for a in alertes[:LIGNES]]}
        host = urlsplit(self.adresse).hostname
        try:
            with requests.post(self.adresse, json=document, timeout=DELAI_S, allow_redirects=False, stream=True) as answer:
                status = answer.status_code
        except requests.exceptions.RequestException as error:
            raise AlertError(f"webhook {host} : {type(error).__name__} ; vérifier que la machine atteint cet hôte") from None
        if not 200 <= status < 300:
            raise AlertError(f"webhook {host} : réponse HTTP {status} ; vérifier DK_ALERTES_WEBHOOK auprès de qui l'a donnée")


@dataclass(frozen=True)
class Courriel:
    """Sends one plain text message through one SMTP server."""

    destinataires: tuple[str, ...]
    hote: str
    port: int
    expediteur: str
    chiffrement: str
    compte: str = ""
    mot_de_passe: str = field(default="", repr=False)

    def send(self, alertes: Sequence[Alerte]) -> None:
        import smtplib
        import ssl
        from email.message import EmailMessage
        from email.utils import formatdate, make_msgid

        mail = EmailMessage()
        mail["Subject"] = f"[Dernier kilomètre] {_title(alertes)}"
        mail["From"], mail["To"] = self.expediteur, ", ".join(self.destinataires)
        mail["Date"], mail["Message-ID"] = formatdate(), make_msgid(domain=self.expediteur.rpartition("@")[2])
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(message(alertes))
        try:
            context = ssl.create_default_context()
            server = (
                smtplib.SMTP_SSL(self.hote, self.port, timeout=DELAI_S, context=context)
                if self.chiffrement == "tls"
                else smtplib.SMTP(self.hote, self.port, timeout=DELAI_S)
            )
            with server:
                if self.chiffrement == "starttls":
                    server.starttls(context=context)
                if self.compte:
                    server.login(self.compte, self.mot_de_passe)
                server.send_message(mail)
        except smtplib.SMTPResponseException as error:
            raise AlertError(f"SMTP {self.hote}:{self.port} : refus {error.smtp_code} ; vérifier DK_SMTP_COMPTE et l'expéditeur") from None
        except (smtplib.SMTPException, OSError, ValueError) as error:
            raise AlertError(f"SMTP {self.hote}:{self.port} : {type(error).__name__} ; vérifier DK_SMTP_SERVEUR et DK_SMTP_CHIFFREMENT") from None


def webhook(environment: Mapping[str, str] = os.environ) -> Webhook | None:
    """The webhook that the environment sets; None without one. Raises AlertError when it is not an http(s) address."""
    address = environment.get("DK_ALERTES_WEBHOOK", "").strip()
    if not address:
        return None
    try:
        parts = urlsplit(address)
        right = bool(parts.hostname) and (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOCAL))
    except ValueError:
        right = False
    if not right:
        raise AlertError("DK_ALERTES_WEBHOOK n'est pas une adresse https:// ; la corriger")
    return Webhook(address)


def courriel(environment: Mapping[str, str] = os.environ) -> Courriel | None:
    """The mail that the environment sets; None without recipients. Raises AlertError when it is set by half."""
    to = tuple(filter(None, (a.strip() for a in environment.get("DK_ALERTES_COURRIEL", "").split(","))))
    if not to:
        return None
    host, _, port = environment.get("DK_SMTP_SERVEUR", "").strip().rpartition(":")
    sender, mode = environment.get("DK_SMTP_EXPEDITEUR", "").strip() or to[0], environment.get("DK_SMTP_CHIFFREMENT", "").strip() or "starttls"
    account, password = environment.get("DK_SMTP_COMPTE", ""), environment.get("DK_SMTP_MOT_DE_PASSE", "")
    if not host or not port.isdigit():
        raise AlertError("DK_SMTP_SERVEUR n'est pas « hôte:port » ; DK_ALERTES_COURRIEL ne sert à rien sans lui")
    if mode not in CHIFFREMENTS:
        raise AlertError(f"DK_SMTP_CHIFFREMENT : écrire {', '.join(CHIFFREMENTS)}")
    if wrong := [a for a in (*to, sender) if not re.fullmatch(r"[^@\s,<>]+@[^@\s,<>]+", a)]:
        raise AlertError(f"adresse électronique mal écrite dans DK_ALERTES_COURRIEL ou DK_SMTP_EXPEDITEUR ({len(wrong)})")
    if bool(account) != bool(password):
        raise AlertError("DK_SMTP_COMPTE et DK_SMTP_MOT_DE_PASSE vont ensemble ; régler les deux ou aucun")
    if account and mode == "aucun" and host.strip("[]") not in LOCAL:
        raise AlertError("un mot de passe ne part pas en clair : régler DK_SMTP_CHIFFREMENT sur starttls ou tls")
    return Courriel(to, host.strip("[]"), int(port), sender, mode, account, password)


def _title(alertes: Sequence[Alerte]) -> str:
    kinds = ", ".join(dict.fromkeys(a.nature for a in alertes))
    return f"{len(alertes)} alerte{'s' if len(alertes) > 1 else ''} : {kinds}"


def message(alertes: Sequence[Alerte]) -> str:
    """The text of one message: a title, one line for each event, and how many are left out."""
    lines = [_title(alertes), "", *(f"- {a}" for a in alertes[:LIGNES])]
    if len(alertes) > LIGNES:
        lines.append(f"- et {len(alertes) - LIGNES} autres, dans l'interface (dk ui)")
    return "\n".join([*lines, "", "Que faire : orchestration/PANNES.md"])


# --- what happened ----------------------------------------------------------------------------------------------


def pending(
    instance: dg.DagsterInstance, cursor: str | None, assets: Sequence[dg.AssetKey], checks: Sequence[dg.AssetCheckKey],
    interface: str = "",
) -> tuple[list[Alerte], str]:
    """The events that ``cursor`` has not told yet, and the cursor once they are.

    The first tick starts from now for runs, and tells the checks that fail now.
    """
    known = json.loads(cursor) if cursor else {"executions": None, "etats": {}}
    alertes, position = _failed_runs(instance, known["executions"], interface)
    states: dict[str, str] = {}
    for name, alerte in [*_failing_checks(instance, checks, interface), *_not_collected(instance, assets, interface)]:
        # Counts move from one day to the next: they make no new event.
        states[name] = hashlib.sha256(re.sub(r"[0-9]+", "", alerte.texte).encode()).hexdigest()[:12]
        if known["etats"].get(name) != states[name]:
            alertes.append(alerte)
    return alertes, json.dumps({"executions": position, "etats": states}, sort_keys=True)


def _failed_runs(instance: dg.DagsterInstance, position: str | None, interface: str) -> tuple[list[Alerte], str | None]:
    failure = dg.DagsterEventType.RUN_FAILURE
    if position is None:
        latest = instance.fetch_run_status_changes(failure, limit=1)
        return [], latest.cursor if latest.records else _before_all()
    found = instance.fetch_run_status_changes(failure, limit=100, cursor=position, ascending=True)
    alertes = []
    for record in found.records:
        run = instance.get_run_by_id(record.event_log_entry.run_id)
        if run is not None:
            alertes.append(_failed_run(instance, run, interface))
    return alertes, found.cursor if found.records else position


def _before_all() -> str:
    from dagster._core.event_api import EventLogCursor

    return str(EventLogCursor.from_storage_id(0))


def _failed_run(instance: dg.DagsterInstance, run: dg.DagsterRun, interface: str) -> Alerte:
    """Which steps failed, which blocking checks with how many rows, and what to do: as the steps themselves declared it."""
    told, steps = [], []
    for entry in instance.all_logs(run.run_id, of_type={dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.ASSET_CHECK_EVALUATION}):
        event = entry.dagster_event
        if event is None:
            continue
        if event.is_step_failure:
            steps.append(event.step_key or "")
            failure = event.step_failure_data.user_failure_data
            declared = _declared(failure.metadata) if failure else None
            error = event.step_failure_data.error
            what = (error.cause or error).cls_name if error else "une erreur"
            if what == "DagsterAssetCheckFailedError":
                continue  # the check that blocks is told below, with what it found
            told.append(f"{event.step_key} : {declared or f'arrêtée par {what} ; lire le message dans cette exécution'}")
        elif not (check := event.asset_check_evaluation_data).passed and check.severity == dg.AssetCheckSeverity.ERROR:
            told.append(_declared(check.metadata) or f"contrôle {check.check_name} de {check.asset_key.to_user_string()}")
    refused = bool(CANDIDAT & set(steps))
    nature = "Publication refusée" if refused else "Exécution en panne"
    after = "la publication précédente reste en place" if refused else "rien n'est publié par cette exécution"
    return Alerte(nature, f"{run.job_name}. {' ; '.join(dict.fromkeys(told)) or 'arrêtée sans dire pourquoi'} ; {after}", _link(interface, f"runs/{run.run_id}"))


def _failing_checks(instance: dg.DagsterInstance, checks: Sequence[dg.AssetCheckKey], interface: str) -> list[tuple[str, Alerte]]:
    """Checks that only warn: those that block are told with the run that they stop."""
    found = []
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(list(checks))
    for key, record in sorted(latest.items()):
        event = record.event.dagster_event if record.event else None
        if event is None or event.event_type != dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            continue  # planned, and not judged yet
        check = event.asset_check_evaluation_data
        if check.passed or check.severity != dg.AssetCheckSeverity.WARN:
            continue
        name = f"{key.asset_key.to_user_string()}:{key.name}"
        nature = "Source périmée" if key.name == "fraicheur" else "Contrôle non réussi"
        found.append((name, Alerte(nature, _declared(check.metadata) or name, _link(interface, f"assets/{key.asset_key.to_user_string()}?view=checks"))))
    return found


def _not_collected(instance: dg.DagsterInstance, assets: Sequence[dg.AssetKey], interface: str) -> list[tuple[str, Alerte]]:
    """Sources that Dagster's own freshness policies say were not collected when they should have been."""
    from dagster._core.definitions.freshness import FreshnessState

    late = sorted(
        key for key, record in instance.get_freshness_state_records(list(assets)).items() if record.freshness_state == FreshnessState.FAIL
    )
    return [
        (
            f"{key.to_user_string()}:non_collectee",
            Alerte(
                "Source non collectée",
                f"{'__'.join(key.path[1:])} n'a pas été collectée à sa date ; vérifier que le démon et le calendrier de sa cadence marchent, "
                "ou la matérialiser",
                _link(interface, f"assets/{key.to_user_string()}"),
            ),
        )
        for key in late
    ]


def _declared(metadata: Mapping[str, Any] | None) -> str | None:
    value = (metadata or {}).get("alerte")
    return str(value.value) if isinstance(value, dg.MetadataValue) else None


def _link(interface: str, path: str) -> str:
    return f"{interface.rstrip('/')}/{path}" if interface else ""


# --- sensors ----------------------------------------------------------------------------------------------------


def sensors(assets: Sequence[dg.AssetKey], checks: Sequence[dg.AssetCheckKey]) -> list[dg.SensorDefinition]:
    """The sensor of each channel; it runs by itself where the environment sets its channel, and says so where it does not."""
    return [
        _sensor("alertes_webhook", webhook, "DK_ALERTES_WEBHOOK", assets, checks),
        _sensor("alertes_courriel", courriel, "DK_ALERTES_COURRIEL", assets, checks),
    ]


def _sensor(
    name: str, channel: Callable[[], Webhook | Courriel | None], setting: str, assets: Sequence[dg.AssetKey],
    checks: Sequence[dg.AssetCheckKey],
) -> dg.SensorDefinition:  # fmt: skip
    @dg.sensor(
        name=name,
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING if os.environ.get(setting) else dg.DefaultSensorStatus.STOPPED,
        description=f"Dit une fois chaque panne, refus de publication, contrôle non réussi et source en retard. Réglé par {setting}.",
    )
    def tell(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        found = channel()
        if found is None:
            return dg.SkipReason(f"{setting} n'est pas réglé")
        alertes, cursor = pending(context.instance, context.cursor, assets, checks, os.environ.get("DK_INTERFACE", ""))
        if alertes:
            found.send(alertes)
        told = f"{len(alertes)} événement(s) dit(s)" if alertes else "rien de nouveau"
        return dg.SensorResult(skip_reason=told, cursor=cursor)

    return tell

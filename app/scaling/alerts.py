"""Alerts: what they are, and which of them a person has been told already.

A problem that stays is told once, then again every so many minutes; one that went away is told as
resolved. What was told is remembered in `state/alerts.json`, per way of telling.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from app.config import Settings
from app.errors import MailcrewError

#: A problem whose end could not be told for so long (ms) is forgotten.
FORGET_MS = 86_400_000

_COMMAND = re.compile(r"(?:^|: )((?:bin/|chmod |chown |kill )\S+(?: (?!has it|makes it|applies it)[^\s,;]+)*)")


#: What sorts of problems there are; pages have words for each.
Kind = Literal[
    "other", "table", "supervisord", "supervisord_mute", "process_down", "process_stopped", "process_dies", "silent",
    "worker_trouble", "nobody", "backlog", "backlog_stopped", "dead", "redis", "redis_version", "redis_policy",
    "redis_aof", "redis_aof_write", "database", "database_migrations", "database_flush", "database_connections",
    "disk", "inodes", "permissions", "server", "server_sender", "campaign_paused", "campaign_failed", "campaign_late",
    "campaign_blocked", "expansion", "unknown", "schedules", "host",
]  # fmt: skip


class Severity(StrEnum):
    """`critical`: nothing is sent, or something may be lost; `warning`: it goes on, but somebody should look."""

    CRITICAL = "critical"
    WARNING = "warning"


@dataclass(frozen=True)
class Alert:
    """One problem. `key` stays the same for as long as it is the same problem, whatever its figures.

    `kind` names what sort it is, `values` what it tells beside that: pages say it in their own words. `source`: who
    told it, for one that does not answer says nothing of its problems. `everywhere`: every host sees the same one.
    """

    key: str
    where: str
    what: str
    remedy: str
    kind: Kind = "other"
    severity: Severity = Severity.WARNING
    values: Mapping[str, str | int] = field(default_factory=dict)
    source: str = "machine"
    everywhere: bool = False

    @property
    def line(self) -> str:
        return " ".join(f"{self.where}: {self.what}; {self.remedy}".split())

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "line": self.line}


def typed(remedy: str) -> str:
    """The command in a remedy, without what is said around it; empty when there is none."""
    found = _COMMAND.search(remedy)
    return found[1] if found else ""


@dataclass(frozen=True)
class Message:
    """What one way of telling is to say now. `resolved_keys`: of the same problems as `resolved`."""

    alerts: tuple[Alert, ...]
    resolved: tuple[str, ...]
    resolved_keys: tuple[str, ...] = field(default=(), compare=False)

    @property
    def empty(self) -> bool:
        return not self.alerts and not self.resolved


@dataclass
class Known:
    """A problem that was seen. Instants are ms since 1970; `told`: when, by way of telling."""

    line: str
    seen: int
    told: dict[str, int] = field(default_factory=dict)


Tell = Callable[[Message], None]


def tell(
    settings: Settings,
    alerts: Sequence[Alert],
    ways: Mapping[str, Tell],
    now: int,
    *,
    quiet: Collection[str] = (),
    told: Callable[[str, Message], object] = lambda _way, _message: None,
) -> list[str]:
    """Tell by each way what is due there; the failures, for people. Nothing while another check is telling.

    What cannot be remembered (a full disk, a file left by root) is told all the same: better twice than never.

    `quiet`: the keys of those of which nobody wants to hear. `told` is called with what each way has told.
    """
    failures: list[str] = []
    with _alone(settings.state, failures) as mine:
        if not mine:
            return []
        known = _read(settings.state / "alerts.json")
        for alert in alerts:
            known[alert.key] = Known(alert.line, now, known[alert.key].told if alert.key in known else {})
        for name, way in ways.items():
            mark = hashlib.sha256(name.encode()).hexdigest()[:16]
            message = due(alerts, known, mark, now, settings.alert_repeat_minutes * 60_000, quiet)
            if message.empty:
                continue
            try:
                way(message)
            except MailcrewError as error:
                failures.append(str(error))  # it is due again at the next check
                continue
            for alert in message.alerts:
                known[alert.key].told[mark] = now
            for key in set(known) - {alert.key for alert in alerts}:
                known[key].told.pop(mark, None)
            told(name, message)
        present = {alert.key for alert in alerts}
        kept = {key: one for key, one in known.items() if key in present or (one.told and now - one.seen < FORGET_MS)}
        try:
            _write(settings.state / "alerts.json", kept)
        except OSError as error:
            failures.append(_forgetful(settings.state / "alerts.json", error))
    return failures


def due(
    alerts: Sequence[Alert],
    known: Mapping[str, Known],
    mark: str,
    now: int,
    repeat_ms: int,
    quiet: Collection[str] = (),
) -> Message:
    """What a way of telling has not told yet, or not for so long; and what it told that is no more."""
    present = {alert.key for alert in alerts}

    def is_due(alert: Alert) -> bool:
        if alert.key in quiet:
            return False
        told = known[alert.key].told.get(mark) if alert.key in known else None
        # A clock that was set back must not silence it.
        return told is None or not 0 <= now - told < repeat_ms

    resolved = [key for key, one in sorted(known.items()) if key not in present and mark in one.told]
    return Message(
        tuple(alert for alert in alerts if is_due(alert)), tuple(known[key].line for key in resolved), tuple(resolved)
    )


@contextmanager
def _alone(state: Path, failures: list[str]) -> Iterator[bool]:
    try:
        opened = _private(state / "alerts.lock")
    except OSError as error:
        failures.append(_forgetful(state / "alerts.lock", error))
        yield True  # maybe not, and then something is told twice
        return
    with opened as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError as error:  # a file system that locks nothing
            failures.append(_forgetful(state / "alerts.lock", error))
        yield True


def _forgetful(path: Path, error: OSError) -> str:
    return f"{path} cannot be used ({error.strerror}), so what was told may be told again"


def _private(path: Path) -> Any:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w")


def _read(path: Path) -> dict[str, Known]:
    try:
        stored = json.loads(path.read_text("utf-8"))
        return {key: Known(str(one["line"]), int(one["seen"]), dict(one["told"])) for key, one in stored.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}  # none yet; of a broken one it is better to tell twice than never


def _write(path: Path, known: Mapping[str, Known]) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with _private(beside) as file:
            json.dump({key: asdict(one) for key, one in known.items()}, file, ensure_ascii=False)
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)  # Else each check leaves another one.
        raise

"""Which entries somebody wants to see, and what an entry says."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from app.watch.logs.entries import REDIS, SUPERVISORD, Raw

LEVELS = ("debug", "info", "warning", "error", "critical")
#: What other programs call them.
_SUPERVISORD = {"CRIT": "critical", "ERRO": "error", "WARN": "warning", "INFO": "info"}
_REDIS = {"#": "warning", "*": "info"}
#: Where our lines say their level, and one that is worse than info.
_LEVEL = b'"level": "'
_WORSE = re.compile(rb'"level": "[^id]').search
#: Fields that are shown in places of their own.
APART = frozenset({"time", "level", "event", "traceback", "pid"})

Mask = Callable[[str], str]


@dataclass(frozen=True)
class Entry:
    """What a process said at an instant (seconds since 1970).

    `text`: its first line as it stands there; `behind`: the lines behind it. `fields`: what a line of ours says beside
    what has a place of its own, None of anybody else's.
    """

    at: float
    process: str
    kind: str
    level: str
    event: str
    pid: int | None
    fields: dict[str, Any] | None
    traceback: str
    text: str
    behind: tuple[str, ...]

    @property
    def more(self) -> str:
        """What one reads when one wants to know more."""
        return "\n".join(filter(None, (self.traceback, *self.behind)))

    def get(self, name: str) -> Any:
        """A field of it, None when it has no such."""
        return (self.fields or {}).get(name)


def understood(raw: Raw, process: str, kind: str, mask: Mask = str) -> Entry:
    """An entry as people read it, without secrets."""
    text = mask(raw.line.decode(errors="replace"))
    behind = tuple(mask(line.decode(errors="replace")) for line in raw.more)
    said = _object(text)
    if said is None:
        level, event = _foreign(raw.line, text, "warning" if kind == "err" else "info")
        return Entry(raw.at, process, kind, level, event, None, None, "", text, behind)
    pid = said.get("pid")
    return Entry(
        at=raw.at, process=process, kind=kind, level=str(said.get("level", "info")), event=str(said.get("event", "")),
        pid=pid if isinstance(pid, int) else None,
        fields={name: value for name, value in said.items() if name not in APART},
        traceback=str(said.get("traceback", "")), text=text, behind=behind,
    )  # fmt: skip


@dataclass(frozen=True)
class Wanted:
    """Conditions that an entry has to meet; empty ones ask for nothing. `level`: this one or a worse one."""

    level: str = ""
    event: str = ""
    text: str = ""
    campaign: int | None = None
    server: str = ""
    server_id: int | None = None
    pid: int | None = None

    def passes_over(self, kind: str) -> Callable[[bytes], bool] | None:
        """Whether none of these bytes of a stream of this kind can be of an entry that is wanted.

        It may say False of some that are of none. None: it would always say that.
        """
        groups = [*_as_written(self.event), *_as_written(self.text)]
        groups += [(str(number).encode(),) for number in (self.campaign, self.pid) if number is not None]
        if self.server_id is None:
            groups += _as_written(self.server)
        # What a program says on stderr may have no level.
        only_worse = kind == "log" and _rank(self.level) > _rank("info")

        def nowhere_in(block: bytes) -> bool:
            if only_worse and _LEVEL in block and not _WORSE(block):
                return True
            low = block.lower()
            return any(all(needle not in low for needle in group) for group in groups)

        return nowhere_in if groups or only_worse else None

    def matches(self, entry: Entry) -> bool:
        if self.level and _rank(entry.level) < _rank(self.level):
            return False
        if self.event and self.event.lower() not in entry.event.lower():
            return False
        if self.text and not self._stands_in(f"{entry.text}\n{entry.more}".lower()):
            return False
        if self.pid is not None and self.pid not in (entry.pid, entry.get("owner_pid")):
            return False
        return self._of_campaign(entry) and self._of_server(entry)

    def _stands_in(self, text: str) -> bool:
        """Whether the wanted text does, as it is or as JSON writes it."""
        return self.text.lower() in text or json.dumps(self.text.lower(), ensure_ascii=False)[1:-1] in text

    def _of_campaign(self, entry: Entry) -> bool:
        if self.campaign is None:
            return True
        own = f"campaign_{self.campaign}"
        return self.campaign in (entry.get("campaign_id"), entry.get("campaign")) or (
            entry.process.startswith(f"{own}-") or entry.get("queue") == own
        )

    def _of_server(self, entry: Entry) -> bool:
        if not self.server and self.server_id is None:
            return True
        name, number = entry.get("server"), entry.get("server_id")
        return (bool(self.server) and name == self.server) or (self.server_id is not None and number == self.server_id)


def _as_written(text: str) -> Collection[tuple[bytes, ...]]:
    """A group for text that stands in a line as it is; none for text that JSON may write in another way."""
    safe = text.isascii() and text.isprintable() and not {'"', "\\"} & set(text)
    return [(text.lower().encode(),)] if text and safe else []


def _object(text: str) -> dict[str, Any] | None:
    if not text.startswith("{"):
        return None
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) and "time" in said else None


def _foreign(line: bytes, text: str, usual: str) -> tuple[str, str]:
    """Level and words of a line that supervisord or Redis wrote, or whoever."""
    if said := SUPERVISORD.match(line):
        return _SUPERVISORD.get(said[3].decode(), "debug"), text[said.start(4) :]
    if said := REDIS.match(line):
        return _REDIS.get(said[3].decode(), "debug"), text[said.start(4) :]
    return usual, text


def _rank(level: str) -> int:
    return LEVELS.index(level) if level in LEVELS else 1

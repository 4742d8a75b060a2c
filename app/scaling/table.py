"""The table of queues and services (`supervisor/queues.toml`): read, checked, frozen."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from app.errors import UsageError

# Below this a program is a foundation: the queues need it, so it starts before and stops after them.
FOUNDATION = 100
EMBEDDED_REDIS = "embedded_redis"
PLACEHOLDERS = frozenset({"python", "root", "home", "redis_server"})

NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")
# Names that scaling gives to its own groups: `send-burst-1`, `campaign_18-2`.
SLOT_NAME = re.compile(r"(?P<queue>.+)-burst-\d+|(?P<campaign>campaign_\d+)(-\d+)?")
# The queue whose workers a boost's are like, but for what they serve and their memory in MB.
BOOSTED = "send"
BOOST_MEMORY = 256
# The queue of checks.
MONITOR = "monitor"
MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


@dataclass(frozen=True)
class Queue:
    """One group of workers; the comment in queues.toml says what each field means."""

    name: str
    queues: tuple[str, ...]
    processes: int
    max: int
    priority: int
    threads: int
    tries: int
    timeout: int
    memory: int
    poll: float
    tasks_per_worker: int
    target_seconds: int
    backlog_alert: int
    own_limits: bool
    modules: tuple[str, ...]

    @property
    def nice(self) -> int:
        """0 up to priority 200, then one step per 20, 19 at most."""
        return min(19, max(0, (self.priority - 200) // 20))


@dataclass(frozen=True)
class Service:
    """One process beside the queues; `words` may hold the PLACEHOLDERS in braces."""

    name: str
    words: tuple[str, ...]
    priority: int
    autostart: bool
    stop_wait: int
    when: str | None


@dataclass(frozen=True)
class Table:
    """Every queue and service, in the order of the file."""

    queues: tuple[Queue, ...]
    services: tuple[Service, ...]

    def queue(self, name: str) -> Queue | None:
        return next((q for q in self.queues if q.name == name), None)

    def with_threads(self, served: str, threads: int) -> Table:
        """The same with other threads in the workers that serve a queue."""
        queues = tuple(replace(q, threads=threads) if served in q.queues else q for q in self.queues)
        return replace(self, queues=queues)

    def queue_of_slot(self, slot: str) -> Queue | None:
        """What the worker of a slot is: one of its queue, or for a boost one that serves its campaign only."""
        owner = owner_of_slot(slot)
        if owner is None or owner.startswith("campaign_"):
            like = self.queue(BOOSTED)
            return replace(like, queues=(owner,), memory=BOOST_MEMORY) if like and owner else None
        return self.queue(owner)


def owner_of_slot(group: str) -> str | None:
    """The queue or `campaign_<id>` that a slot belongs to; None for a group that is no slot."""
    slot = SLOT_NAME.fullmatch(group)
    return (slot["queue"] or slot["campaign"]) if slot else None


def load_table(path: Path, monitor_threads: int | None = None) -> Table:
    """The table in a file; raises UsageError that names file, entry, field, value and what is allowed.

    `monitor_threads` (WORKER_CONCURRENCY), when not None, stands in for the threads of workers that serve `monitor`.
    """
    try:
        table = parse_table(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    return table if monitor_threads is None else table.with_threads(MONITOR, monitor_threads)


def parse_table(text: str, file: str = "queues.toml") -> Table:
    """The table in a text; `file` is how errors call it."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{file} is not valid TOML: {error}") from error
    top = _Entry(file, values)
    table = Table(
        queues=tuple(_queue(e) for e in top.entries("queue")),
        services=tuple(_service(e) for e in top.entries("service")),
    )
    top.nothing_else()
    if not table.queues:
        raise UsageError(f"{file}: there is no [[queue]] entry; at least one is needed")
    _refuse_duplicates(file, table)
    return table


def _queue(entry: _Entry) -> Queue:
    name = entry.name()
    entry.refuse_slot_name(name)
    queues = entry.names("queues", NAME, (name,)) or (name,)
    processes = entry.whole("processes", 1, 0, 100)
    queue = Queue(
        name=name,
        queues=queues,
        processes=processes,
        max=entry.whole("max", max(processes, 1), max(processes, 1), 1000),
        priority=entry.whole("priority", 200, FOUNDATION, 999),
        threads=entry.whole("threads", 1, 1, 64),
        tries=entry.whole("tries", 1, 1, 1000),
        timeout=entry.whole("timeout", 300, 1, 86_400),
        memory=entry.whole("memory", 256, 64, 1_000_000),
        poll=entry.number("poll", 0.5, 0.05, 60),
        tasks_per_worker=entry.whole("tasks_per_worker", 100, 1, 100_000_000),
        target_seconds=entry.whole("target_seconds", 600, 1, 86_400),
        backlog_alert=entry.whole("backlog_alert", 1000, 1, 1_000_000_000),
        own_limits=entry.flag("own_limits", False),
        modules=entry.names("modules", MODULE, ()),
    )
    entry.nothing_else()
    return queue


def _service(entry: _Entry) -> Service:
    name = entry.name()
    entry.refuse_slot_name(name)
    service = Service(
        name=name,
        words=entry.command(),
        priority=entry.whole("priority", 500, 1, 999),
        autostart=entry.flag("autostart", True),
        stop_wait=entry.whole("stop_wait", 30, 1, 3600),
        when=entry.one_of("when", (EMBEDDED_REDIS,)),
    )
    entry.nothing_else()
    return service


def _refuse_duplicates(file: str, table: Table) -> None:
    seen: set[str] = set()
    for name in [q.name for q in table.queues] + [s.name for s in table.services]:
        if name in seen:
            raise UsageError(f"{file}: name = {name!r} is used twice; every queue and service needs its own")
        seen.add(name)


class _Entry:
    """One TOML table: each field is taken once, what is left over at the end is refused."""

    def __init__(self, where: str, values: Mapping[str, Any]) -> None:
        self._where = where
        self._values = dict(values)
        self._known: list[str] = []

    def entries(self, field: str) -> list[_Entry]:
        found = self._take(field, [])
        if not isinstance(found, list) or not all(isinstance(v, dict) for v in found):
            raise UsageError(f"{self._where}: write {field} as [[{field}]] entries")
        return [_Entry(f"{self._where}: {field} {n}", v) for n, v in enumerate(found, 1)]

    def name(self) -> str:
        value = self._take("name", None)
        if not isinstance(value, str) or not NAME.fullmatch(value):
            self._refuse("name", value, "a to z, 0 to 9, - and _, a letter first, 40 characters at most")
        self._where += f" ({value})"
        return str(value)

    def refuse_slot_name(self, name: str) -> None:
        if SLOT_NAME.fullmatch(name):
            self._refuse("name", name, "not campaign_<id> nor <queue>-burst-<k>, which scaling uses for its own")

    def whole(self, field: str, default: int, low: int, high: int) -> int:
        value = self._take(field, default)
        if type(value) is not int or not low <= value <= high:
            self._refuse(field, value, f"a whole number from {low} to {high}")
        return int(value)

    def number(self, field: str, default: float, low: float, high: float) -> float:
        value = self._take(field, default)
        if type(value) not in (int, float) or not low <= value <= high:
            self._refuse(field, value, f"a number from {low:g} to {high:g}")
        return float(value)

    def flag(self, field: str, default: bool) -> bool:
        value = self._take(field, default)
        if not isinstance(value, bool):
            self._refuse(field, value, "true or false")
        return bool(value)

    def one_of(self, field: str, allowed: tuple[str, ...]) -> str | None:
        value = self._take(field, None)
        if value is not None and value not in allowed:
            self._refuse(field, value, " or ".join(f'"{a}"' for a in allowed) + ", or leave it out")
        return None if value is None else str(value)

    def names(self, field: str, pattern: re.Pattern[str], default: tuple[str, ...]) -> tuple[str, ...]:
        values = self._take(field, list(default))
        good = isinstance(values, list) and all(isinstance(v, str) and pattern.fullmatch(v) for v in values)
        if not good or len(set(values)) != len(values):
            self._refuse(field, values, f"a list of different names like {pattern.pattern}")
        return tuple(values)

    def command(self) -> tuple[str, ...]:
        value = self._take("command", None)
        try:
            words = shlex.split(value) if isinstance(value, str) else []
        except ValueError:
            words = []
        unknown = set(re.findall(r"{(\w*)}", str(value))) - PLACEHOLDERS
        if not words or unknown or re.search(r"[\x00-\x1f;#]", value):
            allowed = ", ".join(f"{{{p}}}" for p in sorted(PLACEHOLDERS))
            self._refuse("command", value, f"one line of words without ; and #, with {allowed} filled in")
        return tuple(words)

    def nothing_else(self) -> None:
        for field, value in self._values.items():
            self._refuse(field, value, "a known field: " + ", ".join(self._known))

    def _take(self, field: str, default: Any) -> Any:
        self._known.append(field)
        return self._values.pop(field, default)

    def _refuse(self, field: str, value: Any, allowed: str) -> None:
        if value is None:
            raise UsageError(f"{self._where}: {field} is missing: {allowed}")
        raise UsageError(f"{self._where}: {field} = {value!r} is not allowed: {allowed}")

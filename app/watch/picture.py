"""Everything that `status` and `check` look at, gathered at one moment and within a bounded time."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

import redis

from app.config import Settings
from app.db import Db, connect
from app.errors import Unavailable, UsageError
from app.queues.depth import Depth, depths
from app.queues.recipients import Recipients, waiting_recipients
from app.queues.workers import WorkerStatus, live_workers
from app.scaling.files import marked_stopped
from app.scaling.groups import connected
from app.scaling.memory import tree_mb
from app.scaling.supervisord import Configured, Process
from app.scaling.table import SLOT_NAME, Queue, Table, load_table, owner_of_slot
from app.watch.answers import Asker
from app.workers.starts import Trouble, restart_trouble

#: The queue whose backlog is recipients, not messages.
SEND = "send"
ANSWER_SECONDS = 2.0
SUPERVISORD_SECONDS = 15.0
#: A worker that has run for so long must have been heard of.
HEARD_AFTER_SECONDS = 30


@dataclass(frozen=True)
class Group:
    """One group of supervisord; `wanted` processes should run at present. `owner`: whom people call it."""

    name: str
    owner: str
    kind: str
    wanted: int
    stopped_by_hand: bool
    processes: tuple[Process, ...]

    @property
    def running(self) -> int:
        return sum(p.state == "RUNNING" for p in self.processes)

    @property
    def is_slot(self) -> bool:
        """Whether scaling made it: such a one is stopped by who takes it away, a moment before it is gone."""
        return SLOT_NAME.fullmatch(self.name) is not None


@dataclass(frozen=True)
class Load:
    """What waits for the workers of a queue; None: not known, or not counted for it."""

    backlog: int | None = None
    later: int | None = None
    in_flight: int | None = None
    oldest_seconds: float | None = None
    rate_per_second: float | None = None


@dataclass(frozen=True)
class Owner:
    """A queue with its bursts, a campaign with its boosts, or a service. `kind`: which of them."""

    name: str
    kind: str
    title: str
    groups: tuple[Group, ...]
    load: Load
    memory_mb: float | None

    @property
    def processes(self) -> list[Process]:
        return [process for group in self.groups for process in group.processes]

    @property
    def running(self) -> int:
        return sum(group.running for group in self.groups)

    @property
    def wanted(self) -> int:
        return sum(group.wanted for group in self.groups)

    @property
    def stopped_by_hand(self) -> bool:
        return any(group.stopped_by_hand for group in self.groups if group.name == self.name)


@dataclass(frozen=True)
class Picture:
    """One moment.

    `dead`: letters of each queue. `troubles`: who did not answer ("table", "redis", "database", "supervisord") and
    why. `restarts`: programs that die at once again and again.
    """

    home: Path
    state: str | None
    pid: int | None
    owners: tuple[Owner, ...]
    table: Table | None
    configured: tuple[Configured, ...]
    heartbeats: tuple[WorkerStatus, ...] | None
    memory: dict[int, float]
    dead: dict[str, int] = field(default_factory=dict)
    troubles: dict[str, str] = field(default_factory=dict)
    restarts: dict[str, Trouble] = field(default_factory=dict)

    def heartbeat(self, process: Process) -> WorkerStatus | None:
        """What a worker last said of itself; None when it is silent or nobody could be asked."""
        here = socket.gethostname()
        return next((h for h in self.heartbeats or () if h.pid == process.pid and h.host == here), None)

    def is_silent(self, worker: Process) -> bool:
        """Whether it runs and has not been heard of; never when nobody could be asked."""
        late = worker.state == "RUNNING" and worker.uptime > HEARD_AFTER_SECONDS
        return late and self.heartbeats is not None and self.heartbeat(worker) is None


class Gatherer:
    """Takes pictures of one home. Redis and a database that do not answer cost `seconds` in all."""

    def __init__(self, settings: Settings, root: Path, seconds: float = ANSWER_SECONDS) -> None:
        self._settings, self._root, self._seconds = settings, root, seconds
        self._redis = redis.Redis(
            connection_pool=redis.ConnectionPool.from_url(
                settings.redis_url, socket_timeout=seconds, socket_connect_timeout=seconds
            )
        )
        self._names: tuple[str, ...] = ()
        self._ask_redis = Asker("Redis", self._from_redis)
        self._ask_database = Asker("the database", self._from_database)
        self._ask_supervisord = Asker("supervisord", self._from_supervisord)

    def picture(self) -> Picture:
        """One picture; never raises for a service that is away."""
        troubles = dict[str, str]()
        table = None
        try:
            table = load_table(self._settings.table_of(self._root), self._settings.worker_concurrency)
            self._names = tuple(dict.fromkeys(name for queue in table.queues for name in queue.queues))
        except UsageError as error:
            # A table that somebody is just editing must not keep the rest from being shown.
            troubles["table"] = str(error)
        deadline = time.monotonic() + self._seconds
        asked_redis, asked_database = self._ask_redis.begin(), self._ask_database.begin()
        asked_supervisord = self._ask_supervisord.begin()
        state, pid, configured, processes = None, None, list[Configured](), list[Process]()
        try:
            # The one whose answer nothing can stand in for, so a busy machine gets more time for it.
            state, pid, configured, processes = asked_supervisord.answer(time.monotonic() + SUPERVISORD_SECONDS)
        except Unavailable as error:
            troubles["supervisord"] = str(error)
        found, heartbeats = dict[str, Depth](), None
        try:
            found, heartbeats = asked_redis.answer(deadline)
        except Unavailable as error:
            troubles["redis"] = str(error)
        campaigns: dict[int, Recipients] | None = None
        try:
            campaigns = asked_database.answer(deadline)
        except Unavailable as error:
            troubles["database"] = str(error)
        memory = tree_mb(process.pid for process in processes if process.pid)
        runs = state not in (None, "SHUTDOWN")
        groups = arrange(table, configured, processes, marked_stopped(self._settings)) if runs else []
        owners = _owners(groups, table, _Figures(found, heartbeats, campaigns, memory))
        return Picture(
            home=self._settings.home, state=state, pid=pid, owners=owners, table=table, configured=tuple(configured),
            heartbeats=None if heartbeats is None else tuple(heartbeats), memory=memory, troubles=troubles,
            dead={name: depth.dead for name, depth in found.items()},
            restarts={trouble.program: trouble for trouble in restart_trouble(self._settings)},
        )  # fmt: skip

    def _from_supervisord(self) -> tuple[str | None, int | None, list[Configured], list[Process]]:
        with connected(self._settings) as client:
            state = client.state()
            if state in (None, "SHUTDOWN"):
                return state, None, [], []
            return state, client.pid(), client.configured(), client.processes()

    def _from_redis(self) -> tuple[dict[str, Depth], list[WorkerStatus]]:
        return depths(self._redis, self._names), live_workers(self._redis)

    def _from_database(self) -> dict[int, Recipients]:
        db = open_existing(self._settings.database_url)
        try:
            return waiting_recipients(db, db.now_ms())
        finally:
            db.close()


def open_existing(url: str) -> Db:
    """A database that nobody has touched yet; raises Unavailable for an SQLite file that does not exist."""
    path = unquote(url.removeprefix("sqlite:///"))
    if path != url and not Path(path).is_file():
        raise Unavailable(f"there is no database {path} yet")
    return connect(url)


def arrange(
    table: Table | None, configured: list[Configured], processes: list[Process], stopped: frozenset[str]
) -> list[Group]:
    """Groups by priority, then the queues that have no process."""
    queues = {q.name for q in table.queues} if table else set[str]()
    services = {s.name for s in table.services} if table else set[str]()
    autostart = {c.group for c in configured if c.autostart}
    groups = []
    priority = {c.group: c.priority for c in configured}
    present = sorted({p.group for p in processes}, key=lambda group: (priority.get(group, 0), _by_number(group)))
    for name in dict.fromkeys([*present, *sorted(queues)]):
        members = tuple(p for p in processes if p.group == name)
        by_itself = name in autostart and name not in stopped
        up = sum(p.state in ("RUNNING", "STARTING") for p in members)
        slot = SLOT_NAME.fullmatch(name)
        groups.append(
            Group(
                name=name,
                owner=owner_of_slot(name) or name,
                kind="service" if name in services else "campaign" if slot and slot["campaign"] else "queue",
                wanted=len(members) if by_itself else up,
                stopped_by_hand=name in stopped,
                processes=members,
            )
        )
    return groups


def _by_number(name: str) -> list[tuple[int, str]]:
    """A key that puts send-burst-2 before send-burst-10."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]


@dataclass(frozen=True)
class _Figures:
    depths: dict[str, Depth]
    heartbeats: list[WorkerStatus] | None
    campaigns: dict[int, Recipients] | None
    memory: dict[int, float]

    def load(self, kind: str, name: str, queue: Queue | None, pids: Iterable[int]) -> Load:
        if kind == "service":
            return Load()
        if kind == "campaign":
            number = int(name.removeprefix("campaign_"))
            return _recipients([self.campaigns[number]] if self.campaigns and number in self.campaigns else [])
        if name == SEND:
            return Load() if self.campaigns is None else _recipients(self.campaigns.values())
        return self._messages(queue, frozenset(pids))

    def _messages(self, queue: Queue | None, pids: frozenset[int]) -> Load:
        if queue is None or self.heartbeats is None:
            return Load()
        mine = [self.depths[name] for name in queue.queues]
        ages = [depth.oldest_seconds for depth in mine if depth.oldest_seconds is not None]
        here = socket.gethostname()
        return Load(
            backlog=sum(depth.waiting for depth in mine),
            later=sum(depth.delayed for depth in mine),
            in_flight=sum(depth.in_hand for depth in mine),
            oldest_seconds=max(ages, default=None),
            rate_per_second=round(
                sum(h.rate_per_second for h in self.heartbeats if h.host == here and h.pid in pids), 1
            ),
        )


def _recipients(campaigns: Iterable[Recipients]) -> Load:
    every = list(campaigns)
    return Load(
        backlog=sum(c.due for c in every),
        later=sum(c.later for c in every),
        in_flight=sum(c.leased for c in every),
        oldest_seconds=max((c.oldest_seconds for c in every if c.oldest_seconds is not None), default=None),
        rate_per_second=round(sum(c.rate_per_second for c in every), 1),
    )


def _owners(groups: list[Group], table: Table | None, figures: _Figures) -> tuple[Owner, ...]:
    """Queues first, then campaigns, then services, each in the groups' order."""
    owners = []
    for name in dict.fromkeys(group.owner for group in groups):
        mine = tuple(group for group in groups if group.owner == name)
        # A queue's own group tells what it is; its last burst may be all that supervisord still has of it.
        kind = next((group.kind for group in mine if group.name == name), mine[0].kind)
        pids = [process.pid for group in mine for process in group.processes if process.pid in figures.memory]
        owners.append(
            Owner(
                name=name,
                kind=kind,
                title=_title(name, kind, figures.campaigns),
                groups=mine,
                load=figures.load(kind, name, table.queue(name) if table else None, pids),
                memory_mb=round(sum(figures.memory[pid] for pid in pids), 1) if pids else None,
            )
        )
    return tuple(sorted(owners, key=lambda owner: ("queue", "campaign", "service").index(owner.kind)))


def _title(name: str, kind: str, campaigns: dict[int, Recipients] | None) -> str:
    if kind != "campaign":
        return name
    number = int(name.removeprefix("campaign_"))
    known = (campaigns or {}).get(number)
    return f"campaign {number}" + (f" {known.name!r}" if known else "")

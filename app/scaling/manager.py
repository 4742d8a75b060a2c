"""The manager: every few seconds it looks at what waits and gives each queue the workers that it should have.

What exists it reads from supervisord and the files, each time anew, so it may be killed at any instant. Nothing here
waits for a worker: one that is to go is asked, and cleared away in a later round.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from app.config import ROOT, Settings
from app.db import connect
from app.db.connection import DatabaseTrouble
from app.errors import MailcrewError, Unavailable, UsageError
from app.events import emit, warn
from app.queues.broker import redis_client
from app.scaling.ceilings import Room, free_room, limit_ceilings, present_workers, smtp_ceilings
from app.scaling.demand import Seen, look
from app.scaling.files import Busy, configuration_lock, make_renderer, marked_stopped, table_of
from app.scaling.groups import connected
from app.scaling.history import History, Record
from app.scaling.past import read_past, write_past
from app.scaling.policy import Ceiling, Demand, Limits, Past, plan
from app.scaling.rates import Speeds
from app.scaling.scale import NO_MOVES, Crew, Moves, Override, crew_of, fit_base, fit_slots, floor_and_max, overrides
from app.scaling.slots import Slots
from app.scaling.supervisord import Supervisord
from app.scaling.table import BOOSTED, Queue, Table, owner_of_slot

#: Between two decisions, what is unfinished is looked at this often, in seconds.
SETTLE_SECONDS = 1.0
#: The manager's rounds wait no longer than this for one statement, in seconds: a database that is locked for long
#: must not hold up what needs none.
PATIENCE = 5


@dataclass(frozen=True)
class Options:
    """What the command line says; None: what the table says. `interval` is in seconds."""

    least: int | None = None
    most: int | None = None
    interval: float = 10.0
    jobs_per_worker: int | None = None
    dry_run: bool = False


@dataclass(frozen=True)
class Outcome:
    """One decision about a queue or a boosted campaign, on what grounds, and what was done for it."""

    queue: str
    workers: int
    target: int
    reason: str
    bound_by: str | None = None
    demand: Demand | None = None
    limits: Limits | None = None
    moves: Moves = NO_MOVES

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Manager:
    """Looks after the workers of one home; `step` is one round. Raises nothing that passes by itself."""

    def __init__(self, settings: Settings, root: Path = ROOT, options: Options | None = None) -> None:
        self._settings = settings
        self._root = root
        self._options = options or Options()
        self._redis = redis_client(settings.redis_url)
        self._db = connect(settings.database_url, PATIENCE)
        self._history = History()
        self._said: dict[str, str] = {}
        self._table: Table | None = None
        self._past = read_past(self._past_file)
        self._speeds = Speeds(settings.send_batch_size)
        #: Called with what each round decided.
        self.told: Callable[[list[Outcome]], object] = lambda _: None

    @property
    def held_up(self) -> list[str]:
        """What keeps the manager from doing all of its work just now."""
        return list(self._said.values())

    def run(self, stop: threading.Event) -> None:
        """Decide every interval, and finish what is unfinished in between, until told to stop."""
        due = time.monotonic()
        while not stop.is_set():
            if time.monotonic() >= due:
                due = time.monotonic() + self._options.interval
                self.step()
            else:
                self.settle()
            stop.wait(max(0.05, min(SETTLE_SECONDS, due - time.monotonic())))

    def step(self) -> list[Outcome]:
        """One round: finish what is unfinished, look, decide, act, write down. What was decided."""
        outcomes: list[Outcome] = []
        with connected(self._settings) as client:
            try:
                table = self._read_table()
                seen = look(self._redis, self._db, table)
                self._speeds.note(seen, table, time.monotonic())
                self._say_troubles(seen)
                outcomes = self._round(client, table, seen)
                self._say("supervisord", None)
            except Busy as error:
                emit("scaling waits for another command", reason=str(error))
            except MailcrewError as error:
                self._say("supervisord", str(error))
        self._write_down(outcomes)
        self.told(outcomes)
        return outcomes

    def settle(self) -> None:
        """Take unfinished slots one step on."""
        with connected(self._settings) as client:
            try:
                with configuration_lock(self._settings, patience=0):
                    self._slots(client, self._read_table()).settle()
            except MailcrewError:
                pass  # the next round says it

    def close(self) -> None:
        self._redis.close()
        self._db.close()

    def _round(self, client: Supervisord, table: Table, seen: Seen) -> list[Outcome]:
        state = client.state()
        if state != "RUNNING":
            raise Unavailable(f"supervisord is {state or 'not running'}; nothing is changed")
        if self._options.dry_run:
            return self._decide(client, self._slots(client, table), table, seen)
        with configuration_lock(self._settings, patience=0):
            slots = self._slots(client, table)
            slots.settle()
            outcomes = self._decide(client, slots, table, seen)
            for name in {*slots.failures, *filter(owner_of_slot, self._said)}:
                self._say(name, slots.failures.get(name))
            return outcomes

    def _slots(self, client: Supervisord, table: Table) -> Slots:
        return Slots(self._settings, client, make_renderer(self._settings, self._root), table)

    def _decide(self, client: Supervisord, slots: Slots, table: Table, seen: Seen) -> list[Outcome]:
        said, stopped = overrides(self._settings), marked_stopped(self._settings)
        room = self._room(client, table, seen)
        outcomes = []
        crews = {queue.name: crew_of(client, slots, queue.name) for queue in table.queues}
        ranges = {queue.name: self._range(queue, said.get(queue.name)) for queue in table.queues}
        # The most important first: it takes what room there is, and makes up for a lack of it last.
        queues = sorted(table.queues, key=lambda q: q.priority)
        for number, queue in enumerate(queues, 1):
            crew, (floor, most) = crews[queue.name], ranges[queue.name]
            if queue.name in stopped or crew.stopped_by_a_person(floor):
                outcomes.append(Outcome(queue.name, crew.count, crew.count, "stopped by a person: left alone"))
                continue
            if floor == most == crew.count:
                continue
            spare = [(later, max(0, crews[later.name].count - ranges[later.name][0])) for later in queues[number:]]
            outcome = self._plan(queue, crew, seen, room.after(spare), floor, most)
            more = outcome.target - crew.count
            room = room.less(queue, more) if more > 0 else room.after([(queue, -more)])
            if not self._options.dry_run:
                outcome = self._act(client, slots, crew, outcome, seen, by_hand=queue.name in said)
            outcomes.append(outcome)
        return outcomes + self._boosts(client, slots, table, seen)

    def _plan(self, queue: Queue, crew: Crew, seen: Seen, room: Room, floor: int, most: int) -> Outcome:
        demand, elsewhere = seen.demand(queue, self._speeds.of(queue)), seen.elsewhere(queue)
        if demand is None:
            # The floor needs no measurement.
            return Outcome(queue.name, crew.count, max(floor, crew.count), "what waits is not known: nobody goes")
        present = crew.count + elsewhere
        # At ten seconds a look: settled is longer than a speed reaches back and a worker takes to start.
        limits = Limits(
            floor=floor + elsewhere, max=max(most, floor + elsewhere),
            tasks_per_worker=(None if queue.own_limits else self._options.jobs_per_worker) or queue.tasks_per_worker,
            target_seconds=queue.target_seconds,
            ceilings=room.ceilings(queue, present) + self._smtp(queue, seen, demand, present),
            window_seconds=6 * self._options.interval, settle_seconds=4.5 * self._options.interval,
            idle_step_seconds=self._options.interval / 2,
        )  # fmt: skip
        past = replace(self._past.get(queue.name, Past(present)), workers=present)
        decision = plan(demand, limits, past, time.time())
        self._past[queue.name] = decision.past
        target = max(0, decision.target - elsewhere)
        return Outcome(queue.name, crew.count, target, decision.reason, decision.bound_by, demand, limits)

    def _act(
        self, client: Supervisord, slots: Slots, crew: Crew, outcome: Outcome, seen: Seen, *, by_hand: bool
    ) -> Outcome:
        """The base group is left alone, but for a person who wants less than it has."""
        base = len(crew.base_alive)
        moves = NO_MOVES
        if by_hand and base > outcome.target:
            moves = fit_base(client, crew, outcome.target, seen.busy)
            base = outcome.target
        moves += fit_slots(slots, crew, outcome.queue, max(0, outcome.target - base), seen.busy)
        if moves.started or moves.leaving:
            emit(
                "workers scaled", queue=outcome.queue, workers=outcome.workers, target=outcome.target,
                started=moves.started, leaving=moves.leaving, reason=outcome.reason, bound_by=outcome.bound_by,
                **({} if outcome.demand is None else asdict(outcome.demand)),
            )  # fmt: skip
        return replace(outcome, moves=moves)

    def _boosts(self, client: Supervisord, slots: Slots, table: Table, seen: Seen) -> list[Outcome]:
        """A boost is a person's word: its campaign gets that many, and none once it wants none."""
        if seen.boosts is None or table.queue(BOOSTED) is None:
            return []
        wanted = {f"campaign_{id_}": count for id_, count in seen.boosts.items()}
        owners = sorted({*wanted, *(s.owner for s in slots.look() if s.owner.startswith("campaign_"))})
        stopped, outcomes = marked_stopped(self._settings), []
        for owner in owners:
            crew = Crew((), tuple(slots.of(owner)))
            if owner in stopped:
                continue
            target = wanted.get(owner, 0)
            reason = f"boosted to {target}" if target else "no boost any more"
            outcome = Outcome(owner, crew.count, target, reason)
            if target != crew.count and not self._options.dry_run:
                outcome = self._act(client, slots, crew, outcome, seen, by_hand=False)
            if target != crew.count or target:
                outcomes.append(outcome)
        return outcomes

    def _range(self, queue: Queue, said: Override | None) -> tuple[int, int]:
        """A person's word for the queue, then the command line, then the table.

        The command line is for queues that may grow and have no limits of their own: the clock keeps its one worker.
        """
        floor, most = floor_and_max(queue, said)
        if said is None and queue.max > queue.processes and not queue.own_limits:
            floor = floor if self._options.least is None else self._options.least
            most = max(most if self._options.most is None else self._options.most, floor)
        return floor, most

    def _room(self, client: Supervisord, table: Table, seen: Seen) -> Room:
        present = present_workers(client.processes(), table, seen)
        try:
            return free_room(self._db, present)
        except DatabaseTrouble:
            self._db.close()
            return free_room(None, present)

    def _smtp(self, queue: Queue, seen: Seen, demand: Demand, present: int) -> tuple[Ceiling, ...]:
        if BOOSTED not in queue.queues:
            return ()
        try:
            return limit_ceilings(seen, demand.busy, present) + smtp_ceilings(self._db, queue)
        except DatabaseTrouble:
            self._db.close()
            return ()

    def _read_table(self) -> Table:
        """The table; while somebody's edit has a mistake in it, the last good one."""
        try:
            self._table = table_of(self._settings, self._root)
            self._say("table", None)
        except UsageError as error:
            if self._table is None:
                raise
            self._say("table", str(error))
        return self._table

    def _write_down(self, outcomes: list[Outcome]) -> None:
        if self._options.dry_run or not outcomes:
            return
        try:
            write_past(self._past_file, self._past)
            self._history.keep(self._db, [_record(outcome, self._db.now_ms()) for outcome in outcomes])
            self._say("history", None)
        except (*DatabaseTrouble, OSError) as error:
            self._db.close()
            self._say("history", f"the decisions cannot be stored: {error}")

    def _say_troubles(self, seen: Seen) -> None:
        self._say("sources", "; ".join(seen.troubles) or None)

    def _say(self, about: str, trouble: str | None) -> None:
        """A trouble once when it begins, and once when it is over."""
        if trouble == self._said.get(about):
            return
        if trouble is None:
            del self._said[about]
            emit("scaling goes on", about=about)
        else:
            self._said[about] = trouble
            warn("scaling is held up", about=about, reason=trouble)

    @property
    def _past_file(self) -> Path:
        return self._settings.state / "queue-manager.json"


def _record(outcome: Outcome, at: int) -> Record:
    demand = outcome.demand
    return Record(
        at=at, host=socket.gethostname(), queue=outcome.queue, workers=outcome.workers, target=outcome.target,
        backlog=demand.backlog if demand else None, in_flight=demand.in_flight if demand else None,
        oldest_seconds=demand.oldest_seconds if demand else None, rate=demand.rate if demand else None,
        bound_by=outcome.bound_by, reason=outcome.reason,
    )  # fmt: skip

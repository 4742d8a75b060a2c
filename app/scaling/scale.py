"""How many workers a person wants of a queue: written down in the home, and brought about process by process.

The base group is never changed for this: changing its number would restart all of it. Those of its processes that
are too many are stopped one by one, and what is missing becomes slots.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from app.config import Settings
from app.errors import NotFound, Refused, UsageError
from app.scaling.files import marked_stopped
from app.scaling.slots import SLOT_COUNTS, Slot, Slots, leaving_order
from app.scaling.supervisord import WANTED, Process, Supervisord
from app.scaling.table import Queue, Table

MOST = 1000


@dataclass(frozen=True)
class Override:
    """What a person said of a queue: its floor, and its max when that was said too."""

    floor: int
    max: int | None = None


@dataclass(frozen=True)
class Crew:
    """The workers of a queue on this host: the base group's and the slots'."""

    base: tuple[Process, ...]
    slots: tuple[Slot, ...]

    @property
    def base_alive(self) -> list[Process]:
        return [p for p in self.base if p.state in WANTED or p.state == "EXITED"]

    @property
    def slots_alive(self) -> list[Slot]:
        return [slot for slot in self.slots if slot.state in SLOT_COUNTS]

    @property
    def count(self) -> int:
        """Workers that are there or coming up, without those that are leaving."""
        return len(self.base_alive) + len(self.slots_alive)

    def stopped_by_a_person(self, floor: int) -> bool:
        """Whether the whole base group was stopped, though the queue should have workers."""
        return floor > 0 and bool(self.base) and not self.base_alive


@dataclass(frozen=True)
class Moves:
    """Processes that were started and those that were asked to leave, by name."""

    started: tuple[str, ...] = ()
    leaving: tuple[str, ...] = ()

    def __add__(self, other: Moves) -> Moves:
        return Moves(self.started + other.started, self.leaving + other.leaving)


NO_MOVES = Moves()


def overrides(settings: Settings) -> dict[str, Override]:
    """What people said, by queue; a file that cannot be read counts for nothing."""
    found = {}
    for path in _directory(settings).glob("*.json"):
        try:
            said = json.loads(path.read_text("utf-8"))
            found[path.stem] = Override(int(said["floor"]), None if said["max"] is None else int(said["max"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


def set_override(settings: Settings, table: Table, name: str, floor: int, most: int | None) -> Override:
    """Write down how many workers a queue is to have at least; raises NotFound or UsageError."""
    known_queue(table, name)
    if not 0 <= floor <= MOST:
        raise UsageError(f"N={floor} is not allowed: 0 to {MOST} workers")
    if most is not None and not max(1, floor) <= most <= MOST:
        raise UsageError(f"--max={most} is not allowed: {max(1, floor)} to {MOST} workers")
    _directory(settings).mkdir(exist_ok=True)
    path = _directory(settings) / f"{name}.json"
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps({"floor": floor, "max": most}), "utf-8")
    beside.replace(path)
    return Override(floor, most)


def clear_override(settings: Settings, name: str) -> bool:
    """Let the table say again how many; False when no person had said anything."""
    try:
        (_directory(settings) / f"{name}.json").unlink()
        return True
    except FileNotFoundError:
        return False


def known_queue(table: Table, name: str) -> Queue:
    """The queue of a name; raises NotFound that lists those there are."""
    queue = table.queue(name)
    if queue is None:
        names = ", ".join(q.name for q in table.queues)
        raise NotFound(f"there is no queue {name!r} in supervisor/queues.toml; there are {names}")
    return queue


def floor_and_max(queue: Queue, said: Override | None) -> tuple[int, int]:
    """The least and the most workers of a queue, of its table and of what a person said."""
    if said is None:
        return queue.processes, queue.max
    return said.floor, said.max if said.max is not None else max(queue.max, said.floor)


def crew_of(client: Supervisord, slots: Slots, queue: str) -> Crew:
    """The workers of a queue as they are now."""
    base = tuple(p for p in client.processes() if p.group == queue)
    return Crew(base, tuple(slots.of(queue)))


def bring_to(client: Supervisord, slots: Slots, queue: str, workers: int, busy: Collection[int] | None) -> Moves:
    """Bring a queue to exactly so many workers: its base group as far as it reaches, the rest in slots."""
    crew = crew_of(client, slots, queue)
    base = min(workers, len(crew.base))
    return fit_base(client, crew, base, busy, start=True) + fit_slots(slots, crew, queue, workers - base, busy)


def fit_slots(slots: Slots, crew: Crew, owner: str, workers: int, busy: Collection[int] | None) -> Moves:
    """Bring the slots of an owner to so many workers."""
    missing = workers - len(crew.slots_alive)
    if missing >= 0:
        return Moves(started=tuple(slots.grow(owner, missing)))
    return Moves(leaving=tuple(slots.shrink(owner, -missing, busy)))


def fit_base(
    client: Supervisord, crew: Crew, workers: int, busy: Collection[int] | None, *, start: bool = False
) -> Moves:
    """Stop what a base group has above `workers`, the idle first; with `start`, start what it has below."""
    alive = crew.base_alive
    down = [p for p in crew.base if p.state in ("STOPPED", "FATAL")]
    leaving = leaving_order(alive, busy)[: max(0, len(alive) - workers)]
    starting = down[: max(0, workers - len(alive))] if start else []
    for act, processes in ((client.stop_process, leaving), (client.start_process, starting)):
        for process in processes:
            try:
                act(process)
            except (Refused, NotFound):
                continue  # it went down or came up by itself in between
    return Moves(tuple(p.name for p in starting), tuple(p.name for p in leaving))


def hold_floors(
    settings: Settings, client: Supervisord, slots: Slots, table: Table, busy: Collection[int] | None
) -> Moves:
    """After a change of the table: give each queue its floor without restarting anyone; takes no slot away."""
    said, stopped, moves = overrides(settings), marked_stopped(settings), NO_MOVES
    for queue in table.queues:
        floor, _ = floor_and_max(queue, said.get(queue.name))
        crew = crew_of(client, slots, queue.name)
        if queue.name in stopped or crew.stopped_by_a_person(floor):
            continue
        moves += fit_base(client, crew, floor, busy)
        missing = floor - len(crew.base) - len(crew.slots_alive)
        moves += Moves(started=tuple(slots.grow(queue.name, max(0, missing))))
    return moves


def _directory(settings: Settings) -> Path:
    return settings.state / "scale"

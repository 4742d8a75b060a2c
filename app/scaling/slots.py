"""Slots: groups of one worker each, which scaling makes and takes away without touching any other.

A slot's state follows from its file and from supervisord alone (drawn in docs/states.md), and every
step can be taken again: whoever dies between two of them, the next one goes on from there. Nothing
here waits for a process. All of it wants the configuration lock.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from app.config import Settings
from app.errors import MailcrewError, NotFound, Refused, Unavailable
from app.scaling.files import remove_slot, slot_is_on, slot_names, unmark_stopped, write_slot
from app.scaling.render import Renderer
from app.scaling.supervisord import WANTED, Process, Supervisord
from app.scaling.table import SLOT_NAME, Table, owner_of_slot


class SlotState(StrEnum):
    ABSENT = "absent"
    WANTED = "wanted"
    STARTING = "starting"
    RUNNING = "running"
    DRAINING = "draining"
    GONE = "gone"


#: A slot in one of these has its worker, or will have it by itself.
SLOT_COUNTS = frozenset({SlotState.WANTED, SlotState.STARTING, SlotState.RUNNING})

# EXITED lasts until supervisord starts the worker again, a moment later.
_STATES = {
    "STARTING": SlotState.STARTING,
    "BACKOFF": SlotState.STARTING,
    "EXITED": SlotState.STARTING,
    "RUNNING": SlotState.RUNNING,
    "STOPPING": SlotState.DRAINING,
    "STOPPED": SlotState.GONE,
    "FATAL": SlotState.GONE,
}


@dataclass(frozen=True)
class Slot:
    """One slot. `on`: its file asks for a worker; `process`: what supervisord has of it."""

    name: str
    owner: str
    number: int
    on: bool
    process: Process | None

    @property
    def state(self) -> SlotState:
        if self.process is None:
            return SlotState.WANTED if self.on else SlotState.ABSENT
        # One whose file asks for none is on its way out, though nobody has told it yet.
        found = _STATES.get(self.process.state, SlotState.DRAINING)
        return found if self.on or found not in SLOT_COUNTS else SlotState.DRAINING


class Slots:
    """The slots of one home. `failures` says what did not work, by slot; the next `settle` tries it again."""

    def __init__(self, settings: Settings, client: Supervisord, renderer: Renderer, table: Table) -> None:
        self._settings = settings
        self._client = client
        self._renderer = renderer
        self._table = table
        self.failures: dict[str, str] = {}

    def look(self) -> list[Slot]:
        """Every slot that has a file or a process, by owner and number."""
        processes = {p.group: p for p in self._client.processes() if SLOT_NAME.fullmatch(p.group)}
        found = []
        for name in {*slot_names(self._settings), *processes}:
            owner = owner_of_slot(name)
            assert owner is not None
            on = slot_is_on(self._settings, name)
            found.append(Slot(name, owner, _number(name), on, processes.get(name)))
        return sorted(found, key=lambda slot: (slot.owner, slot.number))

    def of(self, owner: str) -> list[Slot]:
        """The slots of a queue or of `campaign_<id>`."""
        return [slot for slot in self.look() if slot.owner == owner]

    def failures_of(self, owner: str) -> dict[str, str]:
        """What did not work for the slots of one owner."""
        return {name: why for name, why in self.failures.items() if owner_of_slot(name) == owner}

    def settle(self) -> list[str]:
        """Take every unfinished slot one step on: start what is wanted, clear away what has gone; their names."""
        moved = []
        for slot in self.look():
            if slot.state is SlotState.GONE:
                self._turn_off(slot)
                moved.append(slot.name)
            elif slot.state is SlotState.WANTED:
                moved.append(slot.name)
            elif not slot.on and slot.process and slot.process.state in WANTED:
                self._stop(slot)
        return self._apply(moved)

    def grow(self, owner: str, count: int) -> list[str]:
        """Start `count` more workers of an owner in the lowest free slots; the names of those that were started."""
        taken = {slot.number for slot in self.of(owner) if slot.state is not SlotState.ABSENT}
        names: list[str] = []
        number = 0
        while len(names) < count:
            number += 1
            name = slot_name(owner, number)
            if number in taken:
                continue
            text = self._renderer.slot(self._table, name, on=True)
            if text is None:
                raise NotFound(f"there is no queue {owner!r} in supervisor/queues.toml")
            for mark in (name, owner) if owner.startswith("campaign_") else (name,):
                unmark_stopped(self._settings, mark)
            write_slot(self._settings, name, text)
            names.append(name)
        return self._apply(names)

    def shrink(self, owner: str, count: int, busy: Collection[int] | None) -> list[str]:
        """Ask `count` workers of an owner to finish and go, the idle first; the names of those that were asked.

        `busy`: pids that have a task in hand; None when nobody knows.
        """
        counting = [slot for slot in self.of(owner) if slot.state in SLOT_COUNTS]
        counting.sort(key=lambda slot: (_cost(slot.state, slot.process, busy), -slot.number))
        going = counting[: max(0, count)]
        for slot in going:
            if slot.process is None:
                self._turn_off(slot)
                self._apply([slot.name])
            else:
                self._stop(slot)
        return [slot.name for slot in going if slot.name not in self.failures]

    def _stop(self, slot: Slot) -> None:
        assert slot.process is not None
        try:
            self._client.stop_process(slot.process)
        except (Refused, NotFound) as error:
            self.failures[slot.name] = str(error)

    def _turn_off(self, slot: Slot) -> None:
        """The file asks for no worker any more; that of a campaign goes, for its number never comes back."""
        # Whoever stopped it meant the worker that it had.
        unmark_stopped(self._settings, slot.name)
        text = None if slot.owner.startswith("campaign_") else self._renderer.slot(self._table, slot.name, on=False)
        if text is None:
            remove_slot(self._settings, slot.name)
        else:
            write_slot(self._settings, slot.name, text)

    def _apply(self, names: list[str]) -> list[str]:
        """Give supervisord the present files of these slots, which have no living process, and of nothing else."""
        if not names:
            return []
        try:
            self._client.reread()
        except Unavailable:
            raise
        except MailcrewError as error:
            self.failures.update(dict.fromkeys(names, f"the files cannot be read: {error}"))
            return []
        done = []
        for name in names:
            try:
                self._replace(name)
                done.append(name)
            except Refused as error:
                self.failures[name] = str(error)
        return done

    def _replace(self, name: str) -> None:
        try:
            self._client.remove(name)
        except NotFound:
            pass  # it was not in use
        try:
            self._client.add(name)
        except NotFound:
            pass  # it has no file any more


def slot_name(owner: str, number: int) -> str:
    """`send-burst-3` or `campaign_18-3`."""
    return f"{owner}-{number}" if owner.startswith("campaign_") else f"{owner}-burst-{number}"


def leaving_order(processes: list[Process], busy: Collection[int] | None) -> list[Process]:
    """Processes of one group in the order in which they should go: not up yet, idle, busy; the last one first."""
    return sorted(sorted(processes, key=lambda p: p.name, reverse=True), key=lambda p: _cost(_STATES[p.state], p, busy))


def _cost(state: SlotState, process: Process | None, busy: Collection[int] | None) -> int:
    """How much is lost by taking this one away."""
    if state is not SlotState.RUNNING or process is None:
        return 0
    return 1 if busy is not None and process.pid not in busy else 2


def _number(name: str) -> int:
    last = name.rpartition("-")[2]
    return int(last) if last.isdigit() else 0

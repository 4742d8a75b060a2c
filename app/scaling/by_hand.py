"""How many workers a queue has, because a person says so: written down, and brought about at once."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from app.config import Settings
from app.errors import Refused
from app.scaling.files import LOCK_PATIENCE, configuration_lock, make_renderer, marked_stopped, table_of
from app.scaling.groups import connected
from app.scaling.scale import (
    Moves,
    bring_to,
    clear_override,
    crew_of,
    floor_and_max,
    known_queue,
    overrides,
    set_override,
)
from app.scaling.slots import Slots


@dataclass(frozen=True)
class Wanted:
    """How many workers a queue has at least and at most, and whether a person said so (else the table does)."""

    queue: str
    least: int
    most: int
    by_hand: bool


@dataclass(frozen=True)
class Brought:
    """`moves`: None when supervisord does not run, so that the wish is kept for its next start. `failures`: workers
    that could not be started, with the reason; the manager tries again."""

    moves: Moves | None
    failures: dict[str, str]


def wanted_of(settings: Settings, root: Path, name: str) -> Wanted:
    """How it is now; raises NotFound."""
    said = overrides(settings).get(name)
    least, most = floor_and_max(known_queue(table_of(settings, root), name), said)
    return Wanted(name, least, most, said is not None)


def say_how_many(settings: Settings, root: Path, name: str, workers: int | None, most: int | None) -> bool:
    """Write down a person's wish; None: the table says again. False when it did already.

    Raises NotFound, UsageError, or Refused for a queue that a person stopped.
    """
    table = table_of(settings, root)
    known_queue(table, name)
    if name in marked_stopped(settings):
        raise Refused(f"{name} was stopped by a person; first bin/supervisor-manager start {name}")
    if workers is None:
        return clear_override(settings, name)
    set_override(settings, table, name, workers, most)
    return True


def bring_about(
    settings: Settings, root: Path, name: str, busy: Collection[int] | None, patience: float = LOCK_PATIENCE
) -> Brought:
    """Start and send home workers until it is as was said, without waiting for those that leave; raises Unavailable."""
    table = table_of(settings, root)
    said = overrides(settings)
    floor, _ = floor_and_max(known_queue(table, name), said.get(name))
    with connected(settings) as client:
        if client.state() != "RUNNING":
            return Brought(None, {})
        slots = Slots(settings, client, make_renderer(settings, root), table)
        with configuration_lock(settings, patience):
            slots.settle()
            # Given back to the table, nobody goes: that is for the manager to decide.
            least = 0 if name in said else crew_of(client, slots, name).count
            moves = bring_to(client, slots, name, max(floor, least), busy)
        return Brought(moves, dict(slots.failures))

"""The workers that one campaign has of its own: refused where they do not fit, else brought to a number at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from app.config import Settings
from app.db import Db
from app.errors import Refused, Unavailable
from app.scaling.ceilings import free_room, present_workers
from app.scaling.demand import Seen
from app.scaling.files import configuration_lock, make_renderer, table_of, unmark_stopped
from app.scaling.groups import connected
from app.scaling.policy import Ceiling
from app.scaling.scale import Crew, Moves, fit_slots
from app.scaling.slots import Slots, SlotState
from app.scaling.supervisord import Supervisord
from app.scaling.table import Queue, Table


def bring_boost_to(
    settings: Settings, root: Path, db: Db, campaign_id: int, workers: int, seen: Seen, write_down: Callable[[], object]
) -> Moves:
    """Start or send home workers of a campaign until it has so many of its own; those that stay are not touched.

    `write_down` makes the wish the manager's too; it is called when the workers fit and before any starts.
    Raises Refused with the number that fits, or Unavailable, and has changed nothing then; Refused too when
    a worker cannot be started, which the manager tries again.
    """
    owner = f"campaign_{campaign_id}"
    with configuration_lock(settings), connected(settings) as client:
        if client.state() != "RUNNING":
            raise Unavailable("supervisord does not run; first bin/supervisor-manager start")
        table = table_of(settings, root)
        slots = Slots(settings, client, make_renderer(settings, root), table)
        slots.settle()
        crew = Crew((), tuple(slots.of(owner)))
        if workers > crew.count:
            _refuse_what_does_not_fit(db, client, table, campaign_id, crew.count, workers, seen)
        write_down()
        for slot in crew.slots:
            # A person who boosts wants what a person may have stopped before.
            unmark_stopped(settings, slot.name)
        moves = fit_slots(slots, crew, owner, workers, seen.busy)
        for name, reason in slots.failures_of(owner).items():
            raise Refused(f"{name}: {reason}; {workers} stay wanted, and the manager tries again")
        return moves


def boosted_running(settings: Settings, root: Path, campaign_id: int) -> int:
    """Workers of its own that a campaign has running now."""
    with connected(settings) as client:
        slots = Slots(settings, client, make_renderer(settings, root), table_of(settings, root))
        return sum(slot.state is SlotState.RUNNING for slot in slots.of(f"campaign_{campaign_id}"))


def lowest(ceilings: tuple[Ceiling, ...]) -> Ceiling | None:
    """The ceiling that binds; None when nothing is limited."""
    return min(ceilings, key=lambda ceiling: ceiling.workers, default=None)


def _refuse_what_does_not_fit(
    db: Db, client: Supervisord, table: Table, campaign_id: int, have: int, workers: int, seen: Seen
) -> None:
    boosted = table.queue_of_slot(f"campaign_{campaign_id}-1")
    if boosted is None:
        raise Refused("the table of queues has no queue send, whose workers those of a boost are like")
    present = present_workers(client.processes(), table, seen)
    ceiling = lowest(free_room(db, present).ceilings(boosted, have) + smtp_ceilings_of(db, campaign_id, boosted))
    if ceiling and workers > ceiling.workers:
        fits = max(have, ceiling.workers)
        raise Refused(f"COUNT={workers} is too much: {fits} workers fit, limited by {ceiling.name}")


def smtp_ceilings_of(db: Db, campaign_id: int, queue: Queue) -> tuple[Ceiling, ...]:
    """What the campaign's servers allow at a time: each thread of a worker has a connection of its own."""
    rows = db.rows(
        "SELECT s.max_connections FROM campaign_servers c JOIN servers s ON s.id = c.server_id "
        "WHERE c.campaign_id = ? AND s.state = 'active'",
        campaign_id,
    )
    if not rows or any(row[0] is None for row in rows):
        return ()
    return (Ceiling("connections its SMTP servers allow", max(1, sum(int(row[0]) for row in rows) // queue.threads)),)

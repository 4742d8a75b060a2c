"""`bin/supervisor-manager scale`: how many workers a queue has, by hand."""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path

from app.cli.verbs import Commands, add_verb
from app.config import Settings, make_home, settings
from app.errors import Refused, UsageError
from app.queues.broker import redis_client
from app.scaling.by_hand import bring_about, say_how_many
from app.scaling.demand import busy_now
from app.scaling.files import configuration_lock, make_renderer, table_of
from app.scaling.groups import MARGIN, STEP, connected
from app.scaling.scale import NO_MOVES, Moves, crew_of, floor_and_max, known_queue, overrides
from app.scaling.slots import Slots
from app.scaling.supervisord import ALIVE
from app.scaling.table import Table


def add_scale(commands: Commands, root: Path) -> None:
    parser = add_verb(
        commands, "scale", partial(scale, root),
        "how many workers a queue has at least, by hand; without N: show it", "scale send 6 --max 12",
    )  # fmt: skip
    parser.add_argument("queue", metavar="QUEUE")
    parser.add_argument("workers", type=int, nargs="?", metavar="N", help="workers at least, at once and from now on")
    parser.add_argument("--max", type=int, metavar="M", help="workers at most (default: the table's, or N)")
    parser.add_argument("--auto", action="store_true", help="go by supervisor/queues.toml again")


def scale(root: Path, args: argparse.Namespace) -> int:
    """Run the command; 1 when a worker that is to go has not ended in time (it still goes)."""
    found = settings()
    make_home(found)
    table = table_of(found, root)
    known_queue(table, args.queue)
    if args.auto and (args.workers is not None or args.max is not None):
        raise UsageError("--auto goes without N and --max: it lets supervisor/queues.toml say them")
    if args.workers is None and args.max is not None:
        raise UsageError(f"--max={args.max} needs N as well: scale {args.queue} N --max {args.max}")
    if args.workers is None and not args.auto:
        return _show(found, root, table, args.queue)
    said = say_how_many(found, root, args.queue, args.workers, args.max)
    if args.auto:
        print(f"{args.queue} goes by the table again" if said else f"{args.queue} goes by the table already")
    return _bring(found, root, table, args.queue)


def _show(found: Settings, root: Path, table: Table, name: str) -> int:
    said = overrides(found).get(name)
    floor, most = floor_and_max(known_queue(table, name), said)
    whose = "by hand; scale --auto ends that" if said else "from supervisor/queues.toml"
    with connected(found) as client:
        running = "supervisord does not run"
        if client.state() == "RUNNING":
            crew = crew_of(client, Slots(found, client, make_renderer(found, root), table), name)
            running = f"{crew.count} now"
    print(f"{name}: {running}, {floor} at least, {most} at most ({whose})")
    return 0


def _bring(found: Settings, root: Path, table: Table, name: str) -> int:
    brought = bring_about(found, root, name, busy_here(found))
    moves = brought.moves
    if moves is None:
        print("supervisord does not run: kept for the next start")
        return 0
    for started in moves.started:
        print(f"{started}: started")
    for leaving in moves.leaving:
        print(f"{leaving}: finishes its task and goes", flush=True)
    for slot, reason in brought.failures.items():
        raise Refused(f"{slot}: {reason}; the manager tries again")
    with connected(found) as client:
        patience = max((c.stop_wait for c in client.configured() if c.group == name), default=0) + MARGIN
        deadline = time.monotonic() + patience
        while still := [p for p in client.processes() if _leaves(moves, p.group, p.name) and p.state in ALIVE]:
            if time.monotonic() > deadline:
                print(f"still there: {', '.join(p.name for p in still)}")
                return 1
            time.sleep(STEP)
        slots = Slots(found, client, make_renderer(found, root), table)
        with configuration_lock(found):
            slots.settle()
            count = crew_of(client, slots, name).count
    print(f"{name}: {count} workers{'' if moves != NO_MOVES else ', as before'}")
    return 0


def busy_here(found: Settings) -> frozenset[int] | None:
    """The pids on this host that have a task in hand; None when Redis does not answer."""
    client = redis_client(found.redis_url)
    try:
        return busy_now(client)
    finally:
        client.close()


def _leaves(moves: Moves, group: str, process: str) -> bool:
    return group in moves.leaving or process in moves.leaving

"""Change the groups of a running supervisord: apply new files, start and stop by name.

`update` of supervisorctl stops changed groups one after another, and each has no worker until the
slowest before it is down. Here all of them stop at once and each returns when its own are down.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from app.config import Settings
from app.errors import NotFound, Refused
from app.scaling.files import (
    configuration_lock,
    make_renderer,
    mark_stopped,
    marked_stopped,
    render_home,
    table_of,
    unmark_stopped,
)
from app.scaling.render import socket_path
from app.scaling.scale import bring_to, hold_floors, overrides
from app.scaling.slots import Slots
from app.scaling.supervisord import ALIVE, WANTED, Process, Reread, Supervisord
from app.scaling.table import SLOT_NAME

STEP = 0.1
# Beyond the longest time supervisord itself waits before its SIGKILL.
MARGIN = 15.0

Say = Callable[[str], None]


@contextmanager
def connected(settings: Settings) -> Iterator[Supervisord]:
    """A client of the home's supervisord, which may or may not be running."""
    client = Supervisord(socket_path(settings))
    try:
        yield client
    finally:
        client.close()


def update(settings: Settings, root: Path, say: Say, busy: Collection[int] | None = None) -> Reread:
    """Render, reread and apply: only groups whose configuration changed are restarted.

    Another number of processes alone is no reason to restart: those that are too many are stopped, the missing become
    slots. `busy`: pids that have a task in hand and should rather stay.
    """
    with configuration_lock(settings), connected(settings) as client:
        render_home(settings, root, living(client))
        changes = client.reread()
        _apply(client, changes, say)
        table = table_of(settings, root)
        slots = Slots(settings, client, make_renderer(settings, root), table)
        moves = hold_floors(settings, client, slots, table, busy)
        for name in moves.started:
            say(f"{name}: started")
        for name in moves.leaving:
            say(f"{name}: finishes its task and goes")
        return changes


def keep_words(settings: Settings, root: Path, client: Supervisord) -> None:
    """After a start: bring each queue of which a person said so to that number."""
    table, stopped = table_of(settings, root), marked_stopped(settings)
    slots = Slots(settings, client, make_renderer(settings, root), table)
    for name, said in overrides(settings).items():
        if table.queue(name) and name not in stopped:
            bring_to(client, slots, name, said.floor, None)


def living(client: Supervisord) -> dict[str, int]:
    """How many processes each group has of which at least one is alive."""
    processes = client.processes()
    alive = {p.group for p in processes if p.state in ALIVE}
    return dict(Counter(p.group for p in processes if p.group in alive))


def bring_up(client: Supervisord, say: Say) -> None:
    """Add what is new in the files and start what is down, without touching anything that runs."""
    changes = client.reread()
    down = tuple(group for group in changes.changed if not _alive(client, [group]))
    for group in sorted(set(changes.changed) - set(down)):
        say(f"{group} runs with an older configuration; bin/supervisor-manager update applies the new one")
    _apply(client, Reread(changes.added, down, ()), say)
    for group in dict.fromkeys(c.group for c in client.configured() if c.autostart and c.in_use):
        client.start_group(group)


def start_group(settings: Settings, root: Path, name: str) -> list[str]:
    """Start the groups of a name, which no longer count as stopped by a person; their names."""
    with configuration_lock(settings), connected(settings) as client:
        groups = groups_named(settings, client, name)
        unmark_stopped(settings, name)
        for group in groups:
            unmark_stopped(settings, group)
        _take_over_files(settings, root, client, groups)
        for group in groups:
            client.start_group(group)
        keep_words(settings, root, client)
        return groups


def stop_group(settings: Settings, root: Path, name: str, wait: float | None) -> list[Process]:
    """Stop the groups of a name until a person starts them; the processes that outlast `wait`."""
    with connected(settings) as client:
        groups = groups_named(settings, client, name)
        with configuration_lock(settings):
            if name.startswith("campaign_"):
                mark_stopped(settings, name)
            for group in groups:
                mark_stopped(settings, group)
                client.stop_group(group)
        longest = max((c.stop_wait for c in client.configured() if c.group in groups), default=0)
        deadline = time.monotonic() + (longest + MARGIN if wait is None else wait)
        while remaining := _alive(client, groups):
            if time.monotonic() > deadline:
                return remaining
            time.sleep(STEP)
        with configuration_lock(settings):
            _take_over_files(settings, root, client, groups)
        return []


def _take_over_files(settings: Settings, root: Path, client: Supervisord, groups: list[str]) -> None:
    """Give supervisord the present files of groups that are down, so no later update restarts them."""
    render_home(settings, root, living(client))
    changes = client.reread()
    down = tuple(g for g in changes.changed if g in groups and not _alive(client, [g]))
    _apply(client, Reread((), down, ()), lambda _: None)


def _apply(client: Supervisord, changes: Reread, say: Say) -> None:
    configured = client.configured()
    priority = {c.group: c.priority for c in configured}
    by_hand = {c.group for c in configured if not c.autostart}
    waiting = [*changes.removed, *changes.changed]
    running = {p.group for p in client.processes() if p.group in waiting and p.state in WANTED}
    for group in sorted(running):
        client.stop_group(group)
    for group in sorted(changes.added, key=lambda g: priority.get(g, 0)):
        client.add(group)
        say(f"{group}: added")
    while waiting:
        alive = {p.group for p in client.processes() if p.state in ALIVE}
        for group in [g for g in waiting if g not in alive]:
            client.remove(group)
            waiting.remove(group)
            if group in changes.changed:
                client.add(group)
                # A service that a person had started runs on after its configuration changed.
                if group in running & by_hand:
                    client.start_group(group)
            say(f"{group}: {'removed' if group in changes.removed else 'changed'}")
        time.sleep(STEP if waiting else 0)


def _alive(client: Supervisord, groups: list[str]) -> list[Process]:
    return [p for p in client.processes() if p.group in groups and p.state in ALIVE]


def groups_named(settings: Settings, client: Supervisord, name: str) -> list[str]:
    """A queue with its bursts, a campaign with its boosts, or a service."""
    known = list(dict.fromkeys(c.group for c in client.configured() if c.in_use))
    named = [group for group in known if name in (group, *_owner_of_slot(group))]
    if named:
        return named
    if (settings.conf_d / f"{name}.conf").is_file():
        raise Refused(f"{name} has no process: processes = 0 in supervisor/queues.toml")
    raise NotFound(f"there is no group called {name!r}; running here: {', '.join(sorted(known))}")


def _owner_of_slot(group: str) -> tuple[str, ...]:
    slot = SLOT_NAME.fullmatch(group)
    return tuple(filter(None, slot.group("queue", "campaign"))) if slot else ()

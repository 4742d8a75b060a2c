"""Start and stop everything that one home runs.

Up:    what a dead supervisord left behind is ended → files rendered → supervisord → every autostart
       process RUNNING.
Down:  every group above the foundations gets its SIGTERM at once → supervisord stops the rest in
       order, the foundations last → whatever else carries this home in its environment.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from app.config import Settings
from app.errors import Refused, Unavailable
from app.scaling.files import configuration_lock, marked_stopped, render_home, unmark_stopped
from app.scaling.groups import MARGIN, STEP, Say, bring_up, connected, keep_words, living
from app.scaling.processes import Found, processes_of, roots
from app.scaling.render import SUPERVISORD
from app.scaling.scale import overrides
from app.scaling.supervisord import Process, Supervisord
from app.scaling.table import FOUNDATION, owner_of_slot


def start_all(settings: Settings, root: Path, say: Say) -> None:
    """Start supervisord and every group; running already, start what is down and add what is new."""
    with configuration_lock(settings), connected(settings) as client:
        state = client.state()
        if state == "SHUTDOWN":
            raise Refused("supervisord is stopping; try again when bin/supervisor-manager stop has ended")
        for group in marked_stopped(settings):
            unmark_stopped(settings, group)
        if state is None:
            _end_leftovers(settings, say)
        render_home(settings, root, living(client) if state else None)
        if state is None:
            _spawn(settings, root, client)
            say(f"supervisord started, pid {client.pid()}")
        else:
            bring_up(client, say)
        keep_words(settings, root, client)


def not_running(settings: Settings, timeout: float, groups: list[str] | None = None) -> list[Process]:
    """Wait until the groups (None: all with autostart) run; the processes that do not by then."""
    with connected(settings) as client:
        wanted = groups or [c.group for c in client.configured() if c.autostart and c.in_use]
        deadline = time.monotonic() + timeout
        while True:
            late = [
                p
                for p in client.processes()
                if p.group in wanted and p.state != "RUNNING" and not _sent_away(settings, p)
            ]
            if not late or time.monotonic() > deadline:
                return late
            time.sleep(STEP)


def _sent_away(settings: Settings, process: Process) -> bool:
    """Whether scaling has told this one to go: it was in a slot, or one too many for what a person said."""
    scaled = owner_of_slot(process.group) is not None or process.group in overrides(settings)
    return scaled and process.state in ("STOPPING", "STOPPED")


def stop_all(settings: Settings, wait: float | None, say: Say) -> list[Found] | None:
    """Stop everything of the home; what outlasts `wait` seconds, or None when nothing was running."""
    with connected(settings) as client:
        state = client.state()
        remaining = processes_of(settings.home)
        if state is None and not remaining:
            return None
        longest = float(settings.stop_grace_seconds)
        if state not in (None, "SHUTDOWN"):
            longest = _ask_to_stop(client, longest)
        patience = longest + MARGIN if wait is None else wait
        deadline, signalled = time.monotonic() + patience, set[int]()
        while remaining:
            # A supervisord that was asked needs no signal; one that does not answer stops on SIGTERM too.
            _end_roots(remaining, signalled, spare_supervisord=state is not None, say=say)
            if time.monotonic() > deadline:
                return remaining
            time.sleep(STEP)
            # supervisord goes one group further a second, or each time that somebody speaks to it.
            client.state()
            remaining = processes_of(settings.home)
        return []


def _ask_to_stop(client: Supervisord, longest: float) -> float:
    """SIGTERM to all but the foundations at once, then the ordered shutdown; its longest wait."""
    try:
        configured = client.configured()
        above = {c.group: c.priority for c in configured if c.in_use and c.priority >= FOUNDATION}
        # The last started first, so that the manager does not make up for those that stop.
        for group in sorted(above, key=lambda group: -above[group]):
            client.stop_group(group)
        client.shutdown()
    except Unavailable:
        # Someone else's stop may have come in between; then there is nothing left to ask.
        if client.state() not in (None, "SHUTDOWN"):
            raise
        return longest
    below = sum(c.stop_wait for c in configured if c.in_use and c.priority < FOUNDATION)
    return max([longest, *(c.stop_wait for c in configured if c.group in above)]) + below


def _end_roots(found: list[Found], signalled: set[int], spare_supervisord: bool, say: Say) -> None:
    """One SIGTERM to each process that nobody else will stop; to the foundations when they are alone."""
    only_foundations = all(process.stops_last for process in found)
    for process in roots(found):
        if process.pid in signalled or (process.stops_last and not only_foundations):
            continue
        if process.is_supervisord and spare_supervisord:
            continue
        signalled.add(process.pid)
        if not process.is_supervisord:
            say(f"{process.name} (pid {process.pid}) has lost its supervisord; stopping it")
        try:
            os.kill(process.pid, signal.SIGTERM)
        except ProcessLookupError:
            pass  # It ended by itself in the meantime.


def _end_leftovers(settings: Settings, say: Say) -> None:
    """A second set of workers, and above all a second Redis on the same files, must never start."""
    remaining = stop_all(settings, None, say)
    if remaining:
        names = ", ".join(f"{p.name} (pid {p.pid})" for p in remaining)
        raise Refused(f"processes of an earlier start are still there: {names}")


def _spawn(settings: Settings, root: Path, client: Supervisord) -> None:
    """supervisord opens its socket before it goes to the background, so it answers at once."""
    config = str(settings.home / SUPERVISORD)
    done = subprocess.run(
        # -P: a module of the directory we happen to be in must not stand in for one of supervisord's.
        [sys.executable, "-P", "-m", "supervisor.supervisord", "-c", config],
        cwd=root,
        env=_environment(os.environ, settings),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
    )
    deadline = time.monotonic() + 10
    while done.returncode == 0 and client.state() is None and time.monotonic() < deadline:
        time.sleep(STEP)
    if done.returncode or client.state() is None:
        raise Unavailable(f"supervisord did not start: {(done.stderr or done.stdout).strip()}")


def _environment(environ: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """Ours, with the home in full; what a supervisord above us says about us is not for our children."""
    inherited = {key: value for key, value in environ.items() if not key.startswith("SUPERVISOR_")}
    return {**inherited, "MAILCREW_HOME": str(settings.home)}

"""`bin/supervisor-manager start` and `stop`: everything, or one group."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from app.cli.database import migrate_home
from app.cli.verbs import GROUP, Commands, add_verb
from app.config import Settings, make_home, settings
from app.scaling.files import this_machine
from app.scaling.groups import start_group, stop_group
from app.scaling.stack import not_running, start_all, stop_all

START_PATIENCE = 30.0
TAIL_LINES = 15


def add_start(commands: Commands, root: Path) -> None:
    parser = add_verb(commands, "start", partial(start, root), "start everything, or one group", "start send")
    parser.add_argument("name", nargs="?", metavar="NAME", help=GROUP)
    parser.add_argument(
        "--wait", type=_seconds, default=START_PATIENCE, metavar="S", help="seconds to come up (default: 30)"
    )


def add_stop(commands: Commands, root: Path) -> None:
    parser = add_verb(commands, "stop", partial(stop, root), "stop everything, or one group", "stop --wait 60")
    parser.add_argument("name", nargs="?", metavar="NAME", help=GROUP)
    parser.add_argument("--wait", type=_seconds, metavar="S", help="seconds (default: as long as a worker may take)")


def start(root: Path, args: argparse.Namespace) -> int:
    """Run the command; 1 when something is not up in time."""
    found = settings()
    make_home(found)
    if args.name is not None:
        groups = start_group(found, root, args.name)
        return _wait_until_running(found, args.wait, groups, f"started: {', '.join(groups)}")
    this_machine(found, root)  # Without a Redis nothing works; say so before anything is changed.
    migrate_home(found)
    start_all(found, root, print)
    return _wait_until_running(found, args.wait, None, "everything runs")


def stop(root: Path, args: argparse.Namespace) -> int:
    """Run the command; 1 when something is still there (it still stops)."""
    found = settings()
    if args.name is not None:
        outlasted = stop_group(found, root, args.name, args.wait)
        _tell(found, [(p.name, p.pid, p.state) for p in outlasted])
        if outlasted:
            print(f"asked to stop, and going on to; stop {args.name} again waits for them", file=sys.stderr)
            return 1
        print(f"stopped: {args.name}")
        return 0
    remaining = stop_all(found, args.wait, print)
    if remaining is None:
        print("not running")
        return 0
    # supervisord and the foundations only wait for the others.
    first = [p for p in remaining if not (p.is_supervisord or p.stops_last)] or remaining
    _tell(found, [(p.name, p.pid, "there") for p in first])
    if remaining:
        print("they were asked to stop and go on stopping; stop again waits for them", file=sys.stderr)
        return 1
    print("stopped")
    return 0


def _tell(found: Settings, outlasted: Sequence[tuple[str, int, str]]) -> None:
    """Who has not ended, by name, pid and what it still is, and what it is at."""
    if not outlasted:
        return
    # Rarely needed, and the client of Redis is half the time of a command that does without.
    from app.cli.at_work import doing, workers_here

    workers = workers_here(found) or {}
    for name, pid, still in outlasted:
        print(f"{name} (pid {pid}) is still {still}{doing(workers.get(pid))}", file=sys.stderr)


def _wait_until_running(found: Settings, wait: float, groups: list[str] | None, success: str) -> int:
    late = not_running(found, wait, groups)
    for process in late:
        print(f"{process.name} is {process.state}: {process.detail}", file=sys.stderr)
        sys.stderr.writelines(f"  | {line}\n" for line in _last_lines(found, process.name))
    if not late:
        print(success)
    return 1 if late else 0


def _last_lines(found: Settings, process: str) -> list[str]:
    try:
        with (found.logs / f"{process}.err").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 10_000))
            return file.read().decode(errors="replace").splitlines()[-TAIL_LINES:]
    except FileNotFoundError:
        return []  # It could not even be executed, and the line above says why.


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r}: a number of seconds from 0 to 86400")
    return value

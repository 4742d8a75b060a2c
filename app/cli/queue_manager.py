"""`bin/queue-manager`: gives each queue the workers that it needs; one at a time in a home."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TextIO

from app.cli.context import open_home
from app.cli.running import Parser, run
from app.config import ROOT, Settings, make_home, settings
from app.errors import Refused
from app.events import emit, start_logging
from app.scaling.history import Record, last_decisions
from app.scaling.manager import Manager, Options, Outcome
from app.workers.parent import end_with_parent

EXAMPLES = """examples:
  bin/queue-manager --max 30                 until it is told to stop
  bin/queue-manager --once --dry-run         what it would do now
  bin/queue-manager --history --queue send   what it did lately
"""


def main(argv: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """The command; `root` holds supervisor/ and bin/, and is another one only in tests."""
    return run(make_parser(root), argv)


def make_parser(root: Path = ROOT) -> argparse.ArgumentParser:
    parser = Parser(
        prog="queue-manager",
        allow_abbrev=False,
        description="Add and take away workers as the backlogs of the queues need it.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    grows = "of every queue that may grow (max above processes, without own_limits in the table)"
    parser.add_argument(
        "--min", type=_whole(0, 1000), metavar="N", help=f"least workers {grows} (default: the table's)"
    )
    parser.add_argument("--max", type=_whole(1, 1000), metavar="N", help=f"most workers {grows} (default: the table's)")
    parser.add_argument(
        "--check-interval", type=_seconds, default=10.0, metavar="S", help="seconds between two decisions (default: 10)"
    )
    parser.add_argument(
        "--jobs-per-worker", type=_whole(1, 100_000_000), metavar="N",
        help="waiting tasks that justify one more worker of such a queue (default: the table's tasks_per_worker)",
    )  # fmt: skip
    parser.add_argument("--once", action="store_true", help="decide once and end, waiting for no worker")
    parser.add_argument("--dry-run", action="store_true", help="print what would be decided now, change nothing")
    parser.add_argument("--history", action="store_true", help="print the last decisions")
    parser.add_argument("--queue", metavar="NAME", help="with --history: of this queue only")
    parser.add_argument("--last", type=_whole(1, 100_000), default=20, metavar="N", help="with --history: how many")
    parser.add_argument("--json", action="store_true", help="one JSON document (without --once: one a round)")
    parser.set_defaults(run=partial(_run, root))
    return parser


def _run(root: Path, args: argparse.Namespace) -> int:
    if args.history:
        _, db = open_home()
        return _print_history(last_decisions(db, args.last, args.queue), args.json)
    found = settings()
    make_home(found)
    if args.min is not None and args.max is not None and args.min > args.max:
        raise Refused(f"--min {args.min} is above --max {args.max}")
    options = Options(args.min, args.max, args.check_interval, args.jobs_per_worker, args.dry_run)
    if args.dry_run:
        return _once(Manager(found, root, options), args.json)
    with _alone(found):
        manager = Manager(found, root, options)
        if args.once:
            return _once(manager, args.json)
        end_with_parent(found)
        return _for_ever(manager, options, args.json)


def _once(manager: Manager, as_json: bool) -> int:
    outcomes = manager.step()
    manager.close()
    if as_json:
        print(json.dumps([outcome.as_json() for outcome in outcomes], ensure_ascii=False, indent=2))
    else:
        for outcome in outcomes:
            print(_line(outcome))
    if manager.held_up:
        print(f"queue-manager: {'; '.join(manager.held_up)}", file=sys.stderr)
    return 1 if manager.held_up else 0


def _for_ever(manager: Manager, options: Options, as_json: bool) -> int:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, lambda *_: stop.set())
    if as_json:
        manager.told = lambda outcomes: print(json.dumps([o.as_json() for o in outcomes]), flush=True)
    else:
        start_logging()
    emit("queue manager started", pid=os.getpid(), interval=options.interval, min=options.least, max=options.most)
    manager.run(stop)
    manager.close()
    emit("queue manager stopped", pid=os.getpid())
    return 0


def _line(outcome: Outcome) -> str:
    count = f"{outcome.workers} → {outcome.target}" if outcome.workers != outcome.target else f"{outcome.workers}"
    return f"{outcome.queue:<16} {count:>9}  {outcome.reason}"


def _print_history(records: list[Record], as_json: bool) -> int:
    if as_json:
        print(json.dumps([asdict(record) for record in records], ensure_ascii=False, indent=2))
        return 0
    for record in records:
        when = datetime.fromtimestamp(record.at / 1000, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        print(f"{when}  {_line(Outcome(record.queue, record.workers, record.target, record.reason))}")
    if not records:
        print("no decisions yet")
    return 0


@contextmanager
def _alone(found: Settings) -> Iterator[None]:
    """One manager a home, for as long as it lives; raises Refused that says who holds it, and since when."""
    with (found.run / "queue-manager.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(f"another manager looks after this home: {_holder(file)}") from None
        since = datetime.now(UTC).astimezone().isoformat(timespec="seconds")
        file.seek(0)
        file.truncate()
        file.write(json.dumps({"pid": os.getpid(), "since": since}))
        file.flush()
        yield


def _holder(file: TextIO) -> str:
    try:
        file.seek(0)
        said = json.load(file)
        return f"pid {said['pid']}, since {said['since']}"
    except (ValueError, KeyError, TypeError):
        return "it has just started"


class _whole:  # noqa: N801 (reads as a type where it stands)
    """A whole number in a range, for argparse."""

    def __init__(self, low: int, high: int) -> None:
        self._low, self._high = low, high

    def __call__(self, text: str) -> int:
        if not text.isascii() or not text.isdigit() or not self._low <= int(text) <= self._high:
            raise argparse.ArgumentTypeError(f"{text!r}: a whole number from {self._low} to {self._high}")
        return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r}: a number of seconds from 0.1 to 3600")
    return value


if __name__ == "__main__":
    sys.exit(main())

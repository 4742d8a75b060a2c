"""`mailcrew schedules`: when each user's checks run; have made what is due, also without HTTP and Redis."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

from app.cli.context import open_home
from app.db import Db
from app.errors import UsageError
from app.instants import iso
from app.models.schedules import ScheduleState
from app.queues.broker import redis_client
from app.schedules.answers import Answer, answer_direct, answer_queue, answer_sync
from app.schedules.checks.run import run_checks
from app.schedules.document import run_document
from app.schedules.store import (
    Shown,
    list_schedules,
    recent_runs,
    run_now,
    set_schedule,
    show_schedule,
    unlock_expired,
    unlock_user,
)
from app.schedules.times import LONGEST, SHORTEST

PAGE = 1000
RUNS = 10

_DISPATCH = """\
example: bin/mailcrew schedules dispatch
         bin/mailcrew schedules dispatch --user ann@example.com --json
         * * * * * /srv/mailcrew/bin/mailcrew schedules dispatch --sync     (a crontab; works without Redis)
"""


def add(commands: Any) -> None:
    parser = commands.add_parser("schedules", help="when each user's checks run; run what is due")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    show = _verb(verbs, "list", "show every user's schedule", "schedules list --json")
    show.add_argument("--json", action="store_true", help="one JSON document")
    show.set_defaults(run=run_list)
    one = _verb(verbs, "show", "show a user's schedule and last runs", "schedules show ann@example.com")
    _add_user(one)
    one.add_argument("--json", action="store_true", help="one JSON document")
    one.set_defaults(run=run_show)
    change = _verb(
        verbs, "set", "change a user's schedule; a new address makes the user",
        "schedules set ann@example.com --every 15 --on",
    )  # fmt: skip
    _add_user(change)
    change.add_argument("--every", type=int, metavar="M", help="minutes between two runs, 1 to 1440")
    change.add_argument("--on", dest="enabled", action="store_true", default=None, help="make the checks")
    change.add_argument("--off", dest="enabled", action="store_false", help="do not; a run goes on to its end")
    change.set_defaults(run=run_set)
    now = _verb(verbs, "run", "make a user due at once; the next dispatch takes it", "schedules run ann@example.com")
    _add_user(now)
    now.set_defaults(run=run_run)
    _add_unlock(verbs)
    _add_dispatch(verbs)


def _verb(verbs: Any, name: str, text: str, example: str) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = verbs.add_parser(
        name, allow_abbrev=False, help=text, epilog=f"example: bin/mailcrew {example}"
    )
    return made


def _add_user(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("user", metavar="USER", help="id or address")


def _add_unlock(verbs: Any) -> None:
    free = _verb(
        verbs, "unlock", "let go of locks that nobody holds any more", "schedules unlock ann@example.com"
    )  # fmt: skip
    free.description = (
        "Every dispatch lets go of locks that ran out. --expired does it now. With a user, whatever the lock says: a "
        "run that is going counts as interrupted, and whoever makes it records nothing; a claim that waits is given "
        "back."
    )
    which = free.add_mutually_exclusive_group()
    which.add_argument("--expired", action="store_true", help="all locks that ran out (without USER: this)")
    which.add_argument("user", metavar="USER", nargs="?", help="id or address")
    free.set_defaults(run=run_unlock)


def _add_dispatch(verbs: Any) -> None:
    go = verbs.add_parser(
        "dispatch",
        allow_abbrev=False,
        help="have the checks made that are due",
        description="Enqueues whoever is due, as the minute tick does. --sync and --user run the checks in this "
        "process and need no Redis, no worker and no web.",
        epilog=_DISPATCH,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    how = go.add_mutually_exclusive_group()
    how.add_argument("--sync", action="store_true", help="run what is due here, up to DISPATCH_BATCH_SIZE users")
    how.add_argument("--user", metavar="USER", help="run this user's checks here, due or not")
    go.add_argument("--json", action="store_true", help='{"mode","dispatched","users","errors","duration_ms","queue"}')
    go.set_defaults(run=run_dispatch)


def run_list(args: argparse.Namespace) -> int:
    open_home()
    found = _every()
    if args.json:
        print(json.dumps([one.document() for one in found]))
        return 0
    if not list_schedules(1):
        print("no user yet; make one: bin/mailcrew schedules set ADDRESS")
    for shown in found:
        print(_line(shown))
    return 0


def _every() -> Iterator[Shown]:
    last = 0
    while page := list_schedules(PAGE, last):
        yield from page
        last = page[-1].user.id


def _line(shown: Shown) -> str:
    one = shown.schedule
    state = f"next {iso(one.next_run_at)}" if one.state is ScheduleState.IDLE else one.state.value
    ended = f"last {one.last_status}" if one.last_status else "never run"
    return f"{shown.user.id:>6}  {shown.user.email:40} every {one.interval_minutes:>4} min  {state:30} {ended}"


def run_show(args: argparse.Namespace) -> int:
    open_home()
    shown = show_schedule(args.user)
    runs = recent_runs(shown.user.id, RUNS)
    if args.json:
        print(json.dumps({**shown.document(), "last_runs": [run_document(run) for run in runs]}))
        return 0
    one = shown.schedule
    print(f"{shown.user.email} (id {shown.user.id}): {one.state.value}, every {one.interval_minutes} min")
    print(f"  next run   {iso(one.next_run_at)}")
    if one.state is ScheduleState.RUNNING:
        print(f"  running    since {iso(one.last_run_at)}")
    elif one.last_run_at:
        took = "" if one.last_duration_ms is None else f", {one.last_duration_ms / 1000:.1f} s"
        print(f"  last run   {iso(one.last_run_at)}  {one.last_status}{took}")
    if one.last_error:
        print(f"  error      {one.last_error}")
    print(
        f"  runs {one.runs:,}, skipped {one.skipped:,}, overruns {one.overruns:,}, interruptions {one.interruptions:,}"
    )
    for run in runs:
        late = (run.started_at - run.period) / 1000
        print(f"  {iso(run.started_at)}  {run.status:11} {run.duration_ms / 1000:>7.1f} s  {late:.1f} s late")
    return 0


def run_set(args: argparse.Namespace) -> int:
    settings, db = open_home()
    if args.every is not None and not SHORTEST <= args.every <= LONGEST:
        raise UsageError(f"--every {args.every} is not allowed: whole minutes from {SHORTEST} to {LONGEST}")
    shown, new = set_schedule(
        db, settings, args.user, enabled=args.enabled, interval_minutes=args.every, now=db.now_ms()
    )
    print(("new user: " if new else "") + _line(shown).strip())
    return 0


def run_run(args: argparse.Namespace) -> int:
    _, db = open_home()
    shown = run_now(args.user, db.now_ms())
    print(f"{shown.user.email} is due; the next dispatch, at the full minute, takes it")
    return 0


def run_unlock(args: argparse.Namespace) -> int:
    _, db = open_home()
    now = db.now_ms()
    if args.user is None:
        print(f"{counted(unlock_expired(db, now))} let go whose lock had run out")
        return 0
    print(f"{args.user} is free" if unlock_user(db, args.user, now) else f"{args.user} was not locked")
    return 0


def run_dispatch(args: argparse.Namespace) -> int:
    settings, db = open_home()
    if args.user is not None:
        answer = answer_direct(db, settings, args.user, run_checks)
    elif args.sync:
        answer = answer_sync(db, settings, run_checks)
    else:
        answer = answer_queue(db, settings, redis_client(settings.redis_url))
    if args.json:
        print(json.dumps(answer.document(db)))
    else:
        _tell(db, answer)
    return 1 if answer.errors else 0


def counted(users: int) -> str:
    """1 user, 2 users."""
    return f"{users:,} user{'' if users == 1 else 's'}"


def _tell(db: Db, answer: Answer) -> None:
    document = answer.document(db)
    queue = document["queue"]
    done = "enqueued" if answer.mode == "queue" else "run here"
    print(
        f"{counted(document['dispatched'])} {done} in {document['duration_ms'] / 1000:.1f} s; "
        f"{queue['waiting']} wait, {queue['active']} run"
    )
    for result in [document["result"]] if "result" in document else document.get("results", []):
        error = f"  {result['error']}" if result["error"] else ""
        print(f"  {result['user']}: {result['status']}, {result['checks']} checks, {result['duration_ms']} ms{error}")
    for problem in answer.errors:
        print(f"  not done: {problem}")

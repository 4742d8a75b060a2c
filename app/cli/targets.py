"""`mailcrew targets`: what is checked for a user at the user's interval."""

from __future__ import annotations

import argparse
import json
from typing import Any

from app.cli.context import open_home
from app.cli.instants import iso
from app.schedules.checks.document import target_document
from app.schedules.checks.news import what
from app.schedules.checks.store import (
    MOST_TARGETS,
    Target,
    add_target,
    find_target,
    remove_target,
    switch_target,
    targets_of,
)
from app.schedules.checks.target import KINDS, NUMBERS, wanted
from app.schedules.users import find_or_add_user, find_user

_ADD = """\
example: bin/mailcrew targets add ann@example.com --kind http --url https://shop.example.com/health --keyword ok
         bin/mailcrew targets add ann@example.com --kind tcp --host mx.example.com --port 25 --keyword 220
"""


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "targets",
        help="what is checked for a user",
        description="Web pages and ports that are checked for a user, at the interval of bin/mailcrew schedules.",
        epilog="example: bin/mailcrew targets list ann@example.com",
    )
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    _add_parser(verbs)
    show = verbs.add_parser(
        "list",
        allow_abbrev=False,
        help="show a user's targets and how they stand",
        epilog="example: bin/mailcrew targets list ann@example.com --json",
    )
    show.add_argument("user", metavar="USER", help="id or address")
    show.add_argument("--json", action="store_true", help="one JSON document")
    show.set_defaults(run=run_list)
    end = verbs.add_parser(
        "remove",
        allow_abbrev=False,
        help="remove a target with its history",
        epilog="example: bin/mailcrew targets remove 3",
    )
    end.add_argument("id", metavar="ID", type=int)
    end.set_defaults(run=run_remove)
    for verb, text in (("enable", "check a target again"), ("disable", "leave a target alone for a while")):
        one = verbs.add_parser(verb, allow_abbrev=False, help=text, epilog=f"example: bin/mailcrew targets {verb} 3")
        one.add_argument("id", metavar="ID", type=int)
        one.set_defaults(run=run_switch, on=verb == "enable")


def _add_parser(verbs: Any) -> None:
    new = verbs.add_parser(
        "add",
        allow_abbrev=False,
        help="have something checked",
        description=f"Have a web page or a port checked; a new address makes the user. {MOST_TARGETS} a user at most.",
        epilog=_ADD,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    new.add_argument("user", metavar="USER", help="id or address")
    new.add_argument("--kind", choices=KINDS, required=True)
    new.add_argument("--name", help="what mails and pages call it (default: the URL, or HOST:PORT)")
    new.add_argument("--url", metavar="URL", help="http: what to GET, without user name or password")
    new.add_argument("--host", metavar="H", help="tcp: name or address")
    new.add_argument("--port", metavar="P", type=int, help="tcp")
    new.add_argument("--expect-status", metavar="S", help="http: statuses that are good, like 200,204 (200-399)")
    new.add_argument(
        "--keyword", metavar="TEXT", help="http: text that the page must hold; tcp: that the port must say"
    )
    new.add_argument("--not-keyword", metavar="TEXT", help="http: text that the page must not hold")
    for field, text in (
        ("redirects", "http: how many redirects to follow"),
        ("timeout_seconds", "for all of a check"),
        ("confirmations", "failed checks in a row before it is down"),
    ):
        default, least, most, unit = NUMBERS[field]
        new.add_argument(
            f"--{field.replace('_', '-')}", type=int, metavar="N",
            help=f"{text}: {least}-{most} {unit} (default {default})",
        )  # fmt: skip
    new.add_argument("--webhook", metavar="URL", help="is told like the user when it goes down and comes back")
    new.add_argument("--json", action="store_true", help='{"id"}')
    new.set_defaults(run=run_add)


def run_add(args: argparse.Namespace) -> int:
    settings, db = open_home()
    now = db.now_ms()
    given = {name: value for name, value in vars(args).items() if name not in ("user", "json", "run")}
    described = wanted(given, settings.allow_private_addresses)
    user, new = find_or_add_user(db, args.user, settings.default_interval_minutes, now)
    target_id = add_target(db, user.id, described, now)
    if args.json:
        print(json.dumps({"id": target_id}))
        return 0
    if new:
        every = settings.default_interval_minutes
        print(f"user {user.email} is new, checked every {every} minutes; next: bin/mailcrew schedules --help")
    print(f"target {target_id} added: {what(described)}")
    return 0


def run_list(args: argparse.Namespace) -> int:
    _, db = open_home()
    user = find_user(args.user)
    targets = targets_of(db, user.id)
    if args.json:
        print(json.dumps([target_document(one) for one in targets]))
        return 0
    if not targets:
        print(f"nothing is checked for {user.email}; next: bin/mailcrew targets add {user.email} --help")
    for one in targets:
        print(_line(one))
    return 0


def run_remove(args: argparse.Namespace) -> int:
    _, db = open_home()
    target = find_target(db, args.id)
    remove_target(db, target.id, db.now_ms())
    print(f"target {target.id} ({target.wanted.name}) removed")
    return 0


def run_switch(args: argparse.Namespace) -> int:
    _, db = open_home()
    target = find_target(db, args.id)
    changed = switch_target(db, target.id, args.on, db.now_ms())
    state = "on" if args.on else "off"
    print(f"target {target.id} ({target.wanted.name}) is {state}" + ("" if changed else " already"))
    return 0


def _line(target: Target) -> str:
    """One target for people."""
    state = target.standing.state.value if target.wanted.enabled else "off"
    said = f"{target.id:6} {state:8} {target.wanted.name:40} {what(target.wanted)}"
    if target.last is None:
        return f"{said}  not checked yet"
    return f"{said}  {target.last.error or f'{target.last.latency_ms} ms'}, {iso(target.last.at)}"

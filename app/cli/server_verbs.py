"""`mailcrew servers change`, `remove`, `test` and `cool`, and the options that `add` and `change` share."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from app.cli.context import open_home
from app.config import Settings
from app.db import Db
from app.errors import UsageError
from app.mail.address import parse_address
from app.mail.opening import ProviderTrouble
from app.mail.server_changes import (
    change_server,
    clear_cooldown,
    count_from_the_start,
    find_server,
    pause_server,
    remove_server,
    resume_server,
)
from app.mail.server_fields import LIMITS, TLS_KINDS
from app.mail.trying import address_of, send_trial, try_session
from app.queues.broker import redis_client

#: So long a person waits for a token of the server, in seconds.
PATIENCE_SECONDS = 3.0
#: What `--no-…` takes away, and the columns that go with it.
CLEARED = {
    **{limit: (limit,) for limit in (*LIMITS, "max_connections", "tls_ca")},
    "user": ("username", "password_env"),
}
OPTIONS = (
    "host",
    "port",
    "tls",
    "tls_ca",
    "username",
    "password_env",
    *LIMITS,
    "max_connections",
    "weight",
    "timezone",
)


def add_options(verb: argparse.ArgumentParser, *, needed: bool) -> None:
    """The options that say what a server is; `needed`: it is not there yet."""
    verb.add_argument("--host", required=needed)
    verb.add_argument("--port", type=int, required=needed)
    verb.add_argument("--tls", choices=TLS_KINDS, help="certificates are always checked (default none)")
    verb.add_argument("--tls-ca", metavar="FILE", help="PEM file with the authority of a private certificate")
    verb.add_argument("--user", dest="username", metavar="USER", help="user name for AUTH")
    verb.add_argument("--password-env", metavar="VAR", help="variable that holds the password (environment or .env)")
    for limit in LIMITS:
        help_ = "a calendar day of --timezone" if limit == "per_day" else None
        verb.add_argument(f"--{limit.replace('_', '-')}", type=int, metavar="N", help=help_)
    verb.add_argument("--max-connections", type=int, metavar="N", help="at a time, of all workers together")
    verb.add_argument("--weight", type=int, metavar="N", help="share beside the campaign's other servers (default 1)")
    verb.add_argument("--timezone", metavar="ZONE", help="like Asia/Singapore (default: this machine's)")


def said(args: argparse.Namespace) -> dict[str, Any]:
    """The columns that a person gave a value."""
    return {name: value for name in OPTIONS if (value := getattr(args, name)) is not None}


def add(verbs: Any) -> None:
    change = verbs.add_parser(
        "change",
        allow_abbrev=False,
        help="change what a server is or may, pause it, let it go on",
        description="Holds from the next mail on. Campaigns that wait for the server look again at once.",
        epilog="example: bin/mailcrew servers change ses-1 --per-day 80000 --no-per-hour",
    )
    change.add_argument("name", metavar="NAME")
    add_options(change, needed=False)
    for option in CLEARED:
        change.add_argument(f"--no-{option.replace('_', '-')}", dest=f"no_{option}", action="store_true", help="none")
    state = change.add_mutually_exclusive_group()
    state.add_argument("--pause", action="store_true", help="send nothing over it until --resume")
    state.add_argument("--resume", action="store_true")
    change.set_defaults(run=run_change)
    remove = verbs.add_parser(
        "remove",
        allow_abbrev=False,
        help="take a server away; refused while a campaign has no other",
        epilog="example: bin/mailcrew servers remove ses-1",
    )
    remove.add_argument("name", metavar="NAME")
    remove.set_defaults(run=run_remove)
    test = verbs.add_parser(
        "test",
        allow_abbrev=False,
        help="connect, log in, leave; with --to send one mail",
        description="Exit code 1 when a step fails. The mail of --to counts for the limits like any other.",
        epilog="example: bin/mailcrew servers test ses-1 --to me@example.com",
    )
    test.add_argument("name", metavar="NAME")
    test.add_argument("--to", metavar="ADDRESS", help="send a mail there")
    test.add_argument("--from", dest="sender", metavar="ADDRESS", help="from this address (default: NOTICE_FROM)")
    test.set_defaults(run=run_test)
    cool = verbs.add_parser(
        "cool",
        allow_abbrev=False,
        help="end the cool-down of a server and of all senders at it",
        epilog="example: bin/mailcrew servers cool ses-1 --clear",
    )
    cool.add_argument("name", metavar="NAME")
    cool.add_argument("--clear", action="store_true", required=True, help="try it again at once")
    cool.set_defaults(run=run_cool)


def run_change(args: argparse.Namespace) -> int:
    settings, db = open_home()
    changes = said(args)
    for option, columns in CLEARED.items():
        if getattr(args, f"no_{option}"):
            if given := [column for column in columns if column in changes]:
                dashed = option.replace("_", "-")
                raise UsageError(f"--no-{dashed} and --{given[0].replace('_', '-')} contradict each other")
            changes |= dict.fromkeys(columns)
    if not changes and not args.pause and not args.resume:
        raise UsageError("nothing to change: say what, for example --per-day 80000; see --help")
    lines = []
    if changes:
        changed = change_server(db, args.name, changes)
        if changed.first_limits and not _counted(settings, db, changed.server_id):
            lines.append("Redis does not answer: what the server has sent so far may not be counted")
        what = ", ".join(name.replace("_", " ") for name in changed.fields)
        lines.append(f"server {args.name}: {what} changed" if what else f"server {args.name} is like that already")
        if changed.released:
            lines.append(f"campaigns that waited for it look again: {changed.released}")
    if args.pause:
        already = "" if pause_server(db, args.name) else "already "
        lines.append(f"server {args.name} is {already}paused; resume: bin/mailcrew servers change {args.name} --resume")
    if args.resume:
        resumed = resume_server(db, args.name)
        lines.append(f"server {args.name} may send again" if resumed else f"server {args.name} was not paused")
    print("\n".join(lines))
    return 0


def _counted(settings: Settings, db: Db, server_id: int) -> bool:
    client = redis_client(settings.redis_url)
    try:
        return count_from_the_start(db, client, server_id)
    finally:
        client.close()


def run_remove(args: argparse.Namespace) -> int:
    _, db = open_home()
    users = remove_server(db, args.name)
    print(f"server {args.name} removed")
    for user in users:
        print(
            f"campaign {user.campaign_id} {user.name!r} ({user.status}) goes on without it; servers left: {user.others}"
        )
    return 0


def run_test(args: argparse.Namespace) -> int:
    for given in filter(None, (args.to, args.sender)):
        parse_address(given)
    settings, db = open_home()
    server = find_server(args.name)
    address = address_of(server)
    print(f"connecting to {address}, tls {server.tls}", flush=True)
    try:
        try_session(address, _told)
    except ProviderTrouble as error:
        print(f"mailcrew: {error.reason}", file=sys.stderr)
        return 1
    if args.to is None:
        print(f"server {args.name} can be reached; send a mail: bin/mailcrew servers test {args.name} --to ADDRESS")
        return 0
    client = redis_client(settings.redis_url)
    try:
        send_trial(db, client, server, args.sender or settings.notice_from, args.to, _told)
    finally:
        client.close()
    return 0


def _told(step: str) -> None:
    print(f"  {step}", flush=True)


def run_cool(args: argparse.Namespace) -> int:
    _, db = open_home()
    cleared = clear_cooldown(db, args.name)
    print(f"server {args.name} is tried again at once" if cleared else f"server {args.name} is in no trouble")
    return 0

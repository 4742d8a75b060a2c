"""`mailcrew hosts`: which hosts have mails in hand, and what to say when one will never come back."""

from __future__ import annotations

import argparse
import json
from typing import Any

from app.campaigns.hosts import hosts_at_work, settle_dead_host
from app.cli.context import open_home
from app.cli.instants import iso


def add(commands: Any) -> None:
    parser = commands.add_parser("hosts", help="hosts with mails in hand; settle those of a dead one")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    show = verbs.add_parser(
        "list",
        allow_abbrev=False,
        help="every host with mails in hand",
        epilog="example: bin/mailcrew hosts list",
    )
    show.add_argument("--json", action="store_true", help='[{"host","leases","mails","lease_until"}]')
    show.set_defaults(run=run_list)
    gone = verbs.add_parser(
        "gone",
        allow_abbrev=False,
        help="a host is dead for good: what it had in hand becomes unknown at once",
        description="Only when the host is switched off, or will never send again. Nobody can tell any more which of "
        "the mails in its hands went out, so all of them become unknown, and a person decides: bin/mailcrew campaigns "
        "unknown. Without this command the same happens after HOST_GONE_SECONDS.",
        epilog="example: bin/mailcrew hosts gone mail-3",
    )
    gone.add_argument("host", metavar="HOST")
    gone.set_defaults(run=run_gone)


def run_list(args: argparse.Namespace) -> int:
    _, db = open_home()
    now = db.now_ms()
    found = hosts_at_work(db)
    if args.json:
        print(json.dumps([{**vars(one), "lease_until": iso(one.lease_until)} for one in found]))
        return 0
    if not found:
        print("no host has mails in hand")
    for one in found:
        silent = (now - one.lease_until) // 1000
        state = f"silent: its leases ran out {silent} s ago" if silent > 0 else "at work"
        print(f"{one.host:30} {one.leases:>5} batches  {one.mails:>8,} mails  {state}")
    return 0


def run_gone(args: argparse.Namespace) -> int:
    _, db = open_home()
    unknown = settle_dead_host(db, args.host, db.now_ms())
    print(f"{unknown:,} mails that {args.host} had in hand are unknown; next: bin/mailcrew campaigns unknown --help")
    return 0

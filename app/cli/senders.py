"""`mailcrew senders`: the addresses that campaigns are sent from; pausing one."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from app.campaigns.halting import WAIT_SECONDS, wait_until_quiet_from
from app.cli.context import open_home
from app.cli.halting import waiting_seconds
from app.cli.instants import iso
from app.mail.senders import BY_HAND, SenderView, pause_sender, resume_sender, sender_document, sender_key, senders
from app.mail.when import shown_at


def add(commands: Any) -> None:
    parser = commands.add_parser("senders", help="pause, resume and list the addresses that campaigns are sent from")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    show = verbs.add_parser(
        "list",
        allow_abbrev=False,
        help="addresses that are paused, cooling down at a server, or being sent from",
        epilog="example: bin/mailcrew senders list --json",
    )
    show.add_argument("--json", action="store_true", help="one JSON document")
    show.set_defaults(run=run_list)
    pause = verbs.add_parser(
        "pause",
        allow_abbrev=False,
        help="send nothing more from an address until it is resumed",
        description="Returns when no server accepts a mail from it any more. Exit code 1: workers have some in hand.",
        epilog="example: bin/mailcrew senders pause news@example.com --reason 'on a blocklist'",
    )
    pause.add_argument("address", metavar="ADDRESS")
    pause.add_argument("--reason", metavar="R", help=f"shown to people (default: {BY_HAND})")
    pause.add_argument(
        "--wait", type=float, default=WAIT_SECONDS, metavar="S",
        help=f"seconds to wait for what workers have in hand (default {WAIT_SECONDS:g})",
    )  # fmt: skip
    pause.add_argument("--json", action="store_true", help='{"sender","changed","in_hand"}')
    pause.set_defaults(run=run_pause)
    back = verbs.add_parser(
        "resume",
        allow_abbrev=False,
        help="let a paused address go on",
        epilog="example: bin/mailcrew senders resume news@example.com",
    )
    back.add_argument("address", metavar="ADDRESS")
    back.add_argument("--json", action="store_true", help='{"sender","changed"}')
    back.set_defaults(run=run_resume)


def run_list(args: argparse.Namespace) -> int:
    _, db = open_home()
    now = db.now_ms()
    found = senders(db)
    if args.json:
        print(json.dumps([sender_document(one) for one in found], ensure_ascii=False))
        return 0
    if not found:
        print("nobody is paused, in trouble or being sent from")
    for one in found:
        print("\n".join(lines(one, now)))
    return 0


def run_pause(args: argparse.Namespace) -> int:
    seconds = waiting_seconds(args.wait)
    _, db = open_home()
    sender = sender_key(args.address)
    changed = pause_sender(db, args.address, args.reason, db.now_ms())
    left = wait_until_quiet_from(db, sender, seconds)
    if args.json:
        print(json.dumps({"sender": sender, "changed": changed, "in_hand": left.recipients}))
    else:
        already = "" if changed else "already "
        print(f"{sender} is {already}paused; let it go on: bin/mailcrew senders resume {sender}")
    if not left.batches:
        return 0
    print(
        f"workers have {left.recipients:,} recipients in hand yet ({left.batches} batches): a mail that is with a "
        f"server may still be accepted, no other begins. Wait for them: bin/mailcrew senders pause {sender} --wait 60",
        file=sys.stderr,
    )
    return 1


def run_resume(args: argparse.Namespace) -> int:
    _, db = open_home()
    sender = sender_key(args.address)
    changed = resume_sender(db, args.address)
    if args.json:
        print(json.dumps({"sender": sender, "changed": changed}))
    else:
        print(f"{sender} may be sent from again" if changed else f"{sender} is not paused")
    return 0


def lines(one: SenderView, now: int) -> list[str]:
    """What people read of a sender."""
    which = f"  campaigns {', '.join(map(str, one.campaigns))}" if one.campaigns else ""
    why = f": {one.reason}, since {iso(one.paused_at)}" if one.state == "paused" else ""
    return [
        f"{one.sender:30} {one.state}{why}{which}",
        *(
            f"  server {c.server}: {c.reason}, tried "
            + (f"again at {shown_at(c.until, c.timezone, now)}" if c.until > now else "with the next mail")
            for c in one.cooldowns
        ),
    ]

"""`mailcrew campaigns pause`, `resume` and `cancel`."""

from __future__ import annotations

import argparse
import math
import sys
import time
from typing import Any

from app.campaigns.cancelling import left_to_skip, skip_rest
from app.campaigns.halting import (
    WAIT_SECONDS,
    InHand,
    cancel_campaign,
    pause_campaign,
    resume_campaign,
    wait_until_quiet,
)
from app.campaigns.lifecycle import find_campaign
from app.cli.context import open_home
from app.cli.instants import iso
from app.errors import UsageError
from app.models.states import CampaignStatus

LONGEST_WAIT = 86_400


def add(verbs: Any) -> None:
    _waiting(verbs, "pause", run_pause, "send nothing more of a campaign until it is resumed")
    back = verbs.add_parser(
        "resume",
        allow_abbrev=False,
        help="let a paused campaign go on where it was",
        epilog="example: bin/mailcrew campaigns resume 18",
    )
    back.add_argument("id", type=int, metavar="ID")
    back.set_defaults(run=run_resume)
    _waiting(verbs, "cancel", run_cancel, "end a campaign for good; the rest is skipped")


def _waiting(verbs: Any, name: str, run: Any, says: str) -> None:
    verb = verbs.add_parser(
        name,
        allow_abbrev=False,
        help=says,
        description="Returns when no server accepts a mail of it any more. Exit code 1: workers have some in hand yet.",
        epilog=f"example: bin/mailcrew campaigns {name} 18",
    )
    verb.add_argument("id", type=int, metavar="ID")
    verb.add_argument(
        "--wait", type=float, default=WAIT_SECONDS, metavar="S",
        help=f"seconds to wait for what workers have in hand (default {WAIT_SECONDS:g})",
    )  # fmt: skip
    verb.set_defaults(run=run)


def run_pause(args: argparse.Namespace) -> int:
    seconds = waiting_seconds(args.wait)
    _, db = open_home()
    moved = pause_campaign(db, args.id)
    left = wait_until_quiet(db, args.id, seconds)
    already = "" if moved.changed else "already "
    print(f"campaign {args.id} is {already}paused; let it go on: bin/mailcrew campaigns resume {args.id}")
    return _told_of(left, f"bin/mailcrew campaigns pause {args.id} --wait 60")


def run_resume(args: argparse.Namespace) -> int:
    _, db = open_home()
    now = db.now_ms()
    moved = resume_campaign(db, args.id, now)
    if not moved.changed:
        print(f"campaign {args.id} is not paused: it is already {moved.status}")
    elif moved.status == CampaignStatus.SCHEDULED:
        due = find_campaign(args.id).scheduled_at or now
        print(f"campaign {args.id} is scheduled again; it starts at {'the next minute' if due <= now else iso(due)}")
    elif moved.status == CampaignStatus.SENT:
        print(f"campaign {args.id} is sent: nothing was left of it")
    else:
        print(f"campaign {args.id} is sending again; watch it: bin/monitor-campaign {args.id}")
    return 0


def run_cancel(args: argparse.Namespace) -> int:
    seconds = waiting_seconds(args.wait)
    _, db = open_home()
    until = time.monotonic() + seconds
    moved = cancel_campaign(db, args.id, db.now_ms())
    # A first step ends the expansion; the others begin when the workers have given back what they had in hand.
    skip_rest(db, args.id, db.now_ms(), 0)
    left = wait_until_quiet(db, args.id, until - time.monotonic())
    skip_rest(db, args.id, db.now_ms(), until - time.monotonic())
    print(f"campaign {args.id} is {'' if moved.changed else 'already '}cancelled; see bin/check-campaign {args.id}")
    if rest := left_to_skip(db, args.id):
        print(f"{rest:,} recipients are not marked as skipped yet: the workers go on with that by themselves")
    return _told_of(left, f"bin/mailcrew campaigns cancel {args.id} --wait 60")


def waiting_seconds(wait: float) -> float:
    """The value of --wait; raises UsageError."""
    if not (math.isfinite(wait) and 0 <= wait <= LONGEST_WAIT):
        raise UsageError(f"--wait={wait:g} is not allowed: 0 to {LONGEST_WAIT} seconds")
    return wait


def _told_of(left: InHand, again: str) -> int:
    """Say what is in hand yet; the exit code."""
    if not left.batches:
        return 0
    print(
        f"workers have {left.recipients:,} recipients in hand yet ({left.batches} batches): a mail that is with a "
        f"server may still be accepted, no other begins. Wait for them: {again}",
        file=sys.stderr,
    )
    return 1

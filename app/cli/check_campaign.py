"""`bin/check-campaign`: how a campaign stands, what is wrong, what to type."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from app.campaigns.audience import list_sizes, unique_total
from app.campaigns.look import Look, told
from app.cli.context import open_home
from app.cli.instants import duration, iso
from app.cli.look import Watcher
from app.cli.running import Parser, run
from app.db import Db
from app.models.tables import Campaign


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(
        prog="check-campaign",
        description="Show how a campaign stands, what is wrong with it, and what to type.",
        epilog="example: bin/check-campaign 18 --json",
    )
    parser.add_argument("id", type=int, metavar="ID")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.set_defaults(run=check)
    return run(parser, argv)


def check(args: argparse.Namespace) -> int:
    settings, db = open_home()
    look = Watcher(settings, db, args.id).look()
    if args.json:
        print(json.dumps(look.document()))
    else:
        print("\n".join(describe(db, look)))
    return 0


def describe(db: Db, look: Look) -> list[str]:
    """The lines that people read."""
    p = look.progress
    campaign = Campaign.get_by_id(p.campaign_id)
    lines = [f"campaign {p.campaign_id} {p.name!r}: {p.status}" + (f" ({p.reason})" if p.reason else "")]
    lines.append(f"  subject    {campaign.subject}")
    lines.append(f"  from       {campaign.sender}")
    if campaign.scheduled_at:
        lines.append(f"  scheduled  {iso(campaign.scheduled_at)}")
    lines += _lists(db, look)
    lines.append("")
    for label, count in (
        ("recipients", p.recipients), ("pending", p.pending), ("sending", p.sending), ("sent", p.sent),
        ("failed", p.failed), ("skipped", p.skipped), ("unknown", p.unknown),
    ):  # fmt: skip
        lines.append(f"  {label:10} {count:>12,}")
    queue = "Redis does not answer" if look.queue is None else f"{look.queue} tickets waiting"
    lines += ["", f"  queue      {queue}", f"  workers    {'?' if look.workers is None else look.workers}"]
    lines.append(f"  speed      {p.rate_per_second:,.1f} mails/s")
    if p.eta_seconds is not None:
        lines.append(f"  finished   in {duration(p.eta_seconds)}")
    return lines + [""] + [f"  {hint}" for hint in hints(look)]


def _lists(db: Db, look: Look) -> list[str]:
    sizes = list_sizes(db, look.progress.campaign_id)
    lines = [f"  list       {size.name}: {size.active:,} active" for size in sizes]
    expanded = look.progress.recipients and not look.progress.expanding
    total = look.progress.recipients if expanded else unique_total(db, [size.list_id for size in sizes])
    overlap = sum(size.active for size in sizes) - total
    return [*lines, f"  unique     {total:,} people" + (f" ({overlap:,} are on several lists)" if overlap > 0 else "")]


def hints(look: Look) -> list[str]:
    """What is wrong, if anything, and what to type next."""
    p = look.progress
    found = []
    if look.queue is None:
        found.append("! Redis does not answer: bin/supervisor-manager status, then logs redis")
    if look.idle_for_lack_of_workers:
        found.append("! there is work and no worker: bin/supervisor-manager start")
    if p.blocked_by:
        found.append(f"! waiting: {p.blocked_by}")
    # `send` of the process send_00; its log holds the rest.
    found += [
        f"! {told(one)}: bin/supervisor-manager logs {one.program.rpartition('_')[0] or one.program} --errors"
        for one in look.troubles
    ]
    if p.unknown:
        found.append(f"! {p.unknown:,} unknown: the server may have them; bin/mailcrew campaigns unknown --help")
    if p.sending and p.status in ("paused", "cancelled"):
        found.append(f"! workers have {p.sending:,} in hand yet: a mail that is with a server may still be accepted")
    if p.failed:
        found.append(
            f"failed ones with their reasons: bin/mailcrew campaigns recipients {p.campaign_id} --state failed"
        )
    match p.status:
        case "draft":
            found.append(f"next: bin/mailcrew campaigns schedule {p.campaign_id}")
        case "scheduled":
            found.append("it starts at the next minute after its time; the scheduler must run")
        case "sending":
            found.append(f"watch it: bin/monitor-campaign {p.campaign_id}")
        case "paused":
            if p.reason:
                found.append("! it paused by itself, because too many of its mails failed; resumed, it counts anew")
            found.append(f"nothing more is sent; let it go on: bin/mailcrew campaigns resume {p.campaign_id}")
            found.append(f"or end it for good: bin/mailcrew campaigns cancel {p.campaign_id}")
        case "cancelled" if p.pending:
            found.append(f"{p.pending:,} are not marked as skipped yet: the workers go on with that by themselves")
        case "cancelled":
            found.append("it stays cancelled; create another one for those who were skipped")
    return found or ["nothing is wrong"]


if __name__ == "__main__":
    sys.exit(main())

"""`mailcrew campaigns`: create, schedule, list, and look at the recipients; to halt one: `app/cli/halting.py`."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from app.campaigns.lifecycle import Draft, create_campaign, find_campaign, schedule_campaign
from app.campaigns.progress import progress_of_all
from app.campaigns.recipients import RecipientView, recipients_of
from app.campaigns.unknown import resend_unknown, settle_unknown
from app.campaigns.why import Why, why
from app.cli import halting
from app.cli.context import open_home
from app.cli.instants import iso, parse_instant
from app.errors import UsageError
from app.models.tables import LISTED, Campaign

STATES = ("pending", "sending", "sent", "failed", "skipped", "unknown")


def add(commands: Any) -> None:
    parser = commands.add_parser("campaigns", help="create, schedule, pause, cancel and look at campaigns")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    new = verbs.add_parser(
        "create",
        allow_abbrev=False,
        help="store a new campaign as a draft",
        description="Fields of the subscriber are written {{ name }}, {{ city | default('your town') }}.",
        epilog="example: bin/mailcrew campaigns create 'Spring news' --subject 'Hello {{ name }}' "
        "--from 'Shop <news@example.com>' --list newsletter --html spring.html --text spring.txt",
    )
    new.add_argument("name", metavar="NAME")
    new.add_argument("--subject", required=True)
    new.add_argument("--from", dest="sender", required=True, metavar="ADDR")
    new.add_argument("--list", dest="lists", action="append", default=[], metavar="NAME", help="may be repeated")
    new.add_argument("--html", metavar="FILE")
    new.add_argument("--text", metavar="FILE")
    new.add_argument("--server", dest="servers", action="append", default=[], metavar="NAME", help="default: all")
    new.add_argument("--weight", type=int, default=1, help="share beside other campaigns (default 1)")
    new.add_argument("--json", action="store_true", help='{"id"}')
    new.set_defaults(run=run_create)
    later = verbs.add_parser(
        "schedule",
        allow_abbrev=False,
        help="have a campaign sent, now or at a time",
        epilog="example: bin/mailcrew campaigns schedule 18 --at 2026-12-01T09:00:00+08:00",
    )
    later.add_argument("id", type=int, metavar="ID")
    later.add_argument("--at", metavar="ISO8601", help="with a time zone; default: now (the next minute)")
    later.set_defaults(run=run_schedule)
    halting.add(verbs)
    show = verbs.add_parser(
        "list", allow_abbrev=False, help="all campaigns", epilog="example: bin/mailcrew campaigns list --json"
    )
    show.add_argument("--json", action="store_true", help="one JSON document")
    show.set_defaults(run=run_list)
    people = verbs.add_parser(
        "recipients",
        allow_abbrev=False,
        help="who was mailed, who was not, and why",
        description="With --email: in one sentence what became of anybody, recipient or not, and why.",
        epilog="example: bin/mailcrew campaigns recipients 18 --email ann@example.com",
    )
    people.add_argument("id", type=int, metavar="ID")
    people.add_argument("--state", choices=STATES)
    people.add_argument("--email", metavar="ADDRESS")
    people.add_argument("--json", action="store_true", help='one JSON object a line; with --email also "answer"')
    people.set_defaults(run=run_recipients)
    unknown = verbs.add_parser(
        "unknown",
        allow_abbrev=False,
        help="decide about recipients whose mail may or may not have arrived",
        description="A worker ended, or a line was cut, after the whole mail had gone out and before the answer came.",
        epilog="example: bin/mailcrew campaigns unknown 18 --resend",
    )
    unknown.add_argument("id", type=int, metavar="ID")
    what = unknown.add_mutually_exclusive_group(required=True)
    what.add_argument("--resend", action="store_true", help="send again, with the same Message-ID")
    what.add_argument("--settle", action="store_true", help="take them as delivered")
    unknown.set_defaults(run=run_unknown)


def run_create(args: argparse.Namespace) -> int:
    _, db = open_home()
    draft = Draft(
        name=args.name, subject=args.subject, sender=args.sender, lists=args.lists, servers=args.servers,
        html=_body(args.html, "--html"), text=_body(args.text, "--text"), weight=args.weight,
    )  # fmt: skip
    campaign_id = create_campaign(db, draft, db.now_ms())
    if args.json:
        print(json.dumps({"id": campaign_id}))
    else:
        print(f"campaign {campaign_id} is a draft; next: bin/mailcrew campaigns schedule {campaign_id}")
    return 0


def _body(path: str | None, option: str) -> str | None:
    if path is None:
        return None
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"{option}={path!r} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = Path(path).read_bytes()[: error.start].count(b"\n") + 1
        raise UsageError(f"{option}={path!r} is not UTF-8 (line {line}): save it as UTF-8") from error


def run_schedule(args: argparse.Namespace) -> int:
    _, db = open_home()
    now = db.now_ms()
    at = parse_instant(args.at, "--at") if args.at is not None else now
    if at < now - 60_000:
        raise UsageError(f"--at={args.at!r} is in the past ({iso(at)}; now it is {iso(now)})")
    schedule_campaign(db, args.id, at, now)
    when = iso(at) if args.at is not None else "the next minute"
    print(f"campaign {args.id} starts at {when}; watch it: bin/monitor-campaign {args.id}")
    return 0


def run_list(args: argparse.Namespace) -> int:
    _, db = open_home()
    now = db.now_ms()
    all_of_them = progress_of_all(db, list(Campaign.select(*LISTED).order_by(Campaign.id)), now)
    if args.json:
        print(json.dumps([{"id": p.campaign_id, **asdict(p)} for p in all_of_them]))
        return 0
    if not all_of_them:
        print("no campaign yet; create one: bin/mailcrew campaigns create --help")
    for p in all_of_them:
        print(
            f"{p.campaign_id:5} {p.name[:40]:40} {p.status:10} {p.recipients:>10,} recipients  "
            f"{p.sent:>10,} sent  {p.failed:>8,} failed"
        )
    return 0


def run_recipients(args: argparse.Namespace) -> int:
    _, db = open_home()
    campaign = find_campaign(args.id)
    if args.email is not None:
        return _answer(args, why(db, campaign, args.email, db.now_ms()))
    for one in recipients_of(db, campaign, state=args.state):
        if args.json:
            print(json.dumps(_document(one), ensure_ascii=False))
        else:
            print(f"{one.email:40} {one.state:8} {one.attempts} tries  {one.reason or ''}")
    return 0


def _answer(args: argparse.Namespace, found: Why) -> int:
    """What became of one person."""
    if args.state and args.state != found.state:
        print(found.sentence, file=sys.stderr)
        return 1
    if args.json:
        nobody = {**dict.fromkeys(field.name for field in fields(RecipientView)), "email": found.email, "attempts": 0}
        document = _document(found.recipient) if found.recipient else nobody
        print(json.dumps({**document, "answer": found.sentence}, ensure_ascii=False))
    else:
        print(found.sentence)
    return 0


def _document(one: RecipientView) -> dict[str, object]:
    return {**asdict(one), "sent_at": iso(one.sent_at)}


def run_unknown(args: argparse.Namespace) -> int:
    _, db = open_home()
    campaign = find_campaign(args.id)
    decide = resend_unknown if args.resend else settle_unknown
    done = decide(db, campaign)
    later = f" when it is resumed: bin/mailcrew campaigns resume {args.id}" if campaign.status == "paused" else ""
    print(f"{done.decided} recipients {f'are sent again{later}' if args.resend else 'count as sent'}")
    if done.in_hand:
        print(f"{done.in_hand} are in batches that a worker has in hand; try again when it is done", file=sys.stderr)
        return 1
    return 0

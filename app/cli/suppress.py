"""`mailcrew suppress`: addresses and whole domains that are never mailed."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from app.cli.context import open_home
from app.cli.csv_file import opened, progress_bar, say_rejected
from app.cli.instants import iso
from app.lists.rule_file import import_rules
from app.lists.suppressing import Wanted, add_rules, listed, reach_all, remove_rule
from app.mail.suppression import Listed, parse_rule

RULE = "ADDRESS_OR_@DOMAIN"
BY_HAND = "added by hand"

_IMPORT = """\
One address or @domain a line, or a CSV with a header: the column called email, address or domain holds
the rules, one called reason says why. Comma, semicolon or tab. Importing again changes nothing. Bad rows go to a
file with line and reason; the rest goes in.

example: bin/mailcrew suppress import blocklist.csv
         zcat complaints.csv.gz | bin/mailcrew suppress import - --reason 'complaints of 2026' --json
"""


def add(commands: Any) -> None:
    """Add `suppress` and its commands to the parser."""
    group = commands.add_parser(
        "suppress",
        help="addresses and whole domains that are never mailed",
        description="Rules by which addresses, or domains with all below them, are never mailed.",
        epilog="example: bin/mailcrew suppress add @example.com --reason 'they asked us to'",
    )
    verbs = group.add_subparsers(metavar="VERB", required=True)
    new = verbs.add_parser(
        "add",
        allow_abbrev=False,
        help="mail an address, or a domain with all below it, no more",
        epilog="example: bin/mailcrew suppress add ann@example.com --reason 'complained'",
    )
    new.add_argument("rule", metavar=RULE)
    new.add_argument("--reason", default=BY_HAND, metavar="R", help=f"why (default: {BY_HAND})")
    new.add_argument("--json", action="store_true", help='{"rule","kind","created","blocked"}')
    new.set_defaults(run=run_add)
    gone = verbs.add_parser(
        "remove",
        allow_abbrev=False,
        help="remove a rule: whom it alone kept from being mailed is mailed again",
        description="Given an address, also mail again who counts as bounced.",
        epilog="example: bin/mailcrew suppress remove @example.com",
    )
    gone.add_argument("rule", metavar=RULE)
    gone.add_argument("--json", action="store_true", help='{"rule","kind","removed","released"}')
    gone.set_defaults(run=run_remove)
    many = verbs.add_parser(
        "import",
        allow_abbrev=False,
        help="add the rules in a file of any size",
        description="Add the rules in a file of any size.",
        epilog=_IMPORT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    many.add_argument("file", metavar="FILE.csv", help="the file; - reads standard input")
    many.add_argument("--reason", metavar="R", help="why, where the file says nothing (default: imported from FILE)")
    many.add_argument("--encoding", metavar="E", help="utf-8 (the default), gb18030 or any other that Python knows")
    many.add_argument("--json", action="store_true", help="print the counts as one JSON object")
    many.set_defaults(run=run_import)
    show = verbs.add_parser(
        "list", allow_abbrev=False, help="every rule", epilog="example: bin/mailcrew suppress list --json"
    )
    show.add_argument("--json", action="store_true", help="one JSON array")
    show.set_defaults(run=run_list)


def run_add(args: argparse.Namespace) -> int:
    rule = parse_rule(args.rule)
    _, db = open_home()
    added = add_rules(db, [Wanted(rule, " ".join(args.reason.split()) or BY_HAND)])
    blocked = added.blocked + reach_all(db)
    if args.json:
        print(json.dumps({"rule": str(rule), "kind": rule.kind, "created": added.created == 1, "blocked": blocked}))
    else:
        print(f"{rule} {'is' if added.created else 'was already'} suppressed; {_subscribers(blocked)} blocked")
    return 0


def run_remove(args: argparse.Namespace) -> int:
    rule = parse_rule(args.rule)
    _, db = open_home()
    done = remove_rule(db, rule)
    if args.json:
        print(json.dumps({"rule": str(rule), "kind": rule.kind, **asdict(done)}))
    elif done.removed or done.released:
        what = f"the rule {rule} is gone" if done.removed else f"there was no rule {rule}"
        print(f"{what}; {_subscribers(done.released)} active again")
    if not done.removed and not done.released:
        print(f"there is no rule {rule}; bin/mailcrew suppress list names them all", file=sys.stderr)
        return 1
    return 0


def _subscribers(count: int) -> str:
    return "1 subscriber is" if count == 1 else f"{count:,} subscribers are"


def run_import(args: argparse.Namespace) -> int:
    with opened(args.file) as (source, size):
        settings, db = open_home()
        name = "standard input" if args.file == "-" else Path(args.file).name
        reason = " ".join((args.reason or "").split()) or f"imported from {name}"
        try:
            with progress_bar(size) as report:
                result = import_rules(
                    db,
                    source,
                    reason=reason,
                    rejects_in=settings.state / "rejects",
                    file_name=args.file,
                    encoding=args.encoding,
                    progress=report,
                )
        except KeyboardInterrupt:
            print("interrupted: import the file again to complete it", file=sys.stderr)
            raise
    if args.json:
        print(json.dumps(asdict(result), ensure_ascii=False))
    else:
        print(
            f"{result.read} rows read, {result.created} rules created, {result.unchanged} unchanged,"
            f" {result.rejected} rejected; {_subscribers(result.blocked)} blocked"
        )
    say_rejected(result.rejected, result.rejects_file)
    return 0


def run_list(args: argparse.Namespace) -> int:
    _, db = open_home()
    rules = listed(db)
    if args.json:
        print("[", end="")
        for number, rule in enumerate(rules):
            document = json.dumps(_document(rule), ensure_ascii=False)
            print(f"{',' if number else ''}\n {document}", end="")
        print("]")
        return 0
    return _table(rules)


def _table(rules: Iterator[Listed]) -> int:
    none = True
    for rule in rules:
        none = False
        print(f"{rule.rule!s:40} {iso(rule.created_at)}  {rule.reason}")
    if none:
        print("no rules yet; bin/mailcrew suppress add --help", file=sys.stderr)
    return 0


def _document(one: Listed) -> dict[str, object]:
    return {"rule": str(one.rule), "kind": one.rule.kind, "reason": one.reason, "created_at": iso(one.created_at)}

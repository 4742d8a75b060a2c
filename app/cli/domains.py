"""`mailcrew domains`: limits for mails to a domain, at each server."""

from __future__ import annotations

import argparse
import json
from typing import Any

from app.cli.context import open_home
from app.mail.limits import DomainRule
from app.mail.limits.domains import domain_name, list_rules, set_rule, unset_rule, use_defaults

LIMITS = ("per_second", "per_minute", "per_hour", "per_day")


def add(commands: Any) -> None:
    parser = commands.add_parser("domains", help="limits per recipient domain, at each server")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    show = verbs.add_parser(
        "list", allow_abbrev=False, help="show the rules", epilog="example: bin/mailcrew domains list --json"
    )
    show.add_argument("--json", action="store_true", help="one JSON document")
    show.set_defaults(run=run_list)
    new = verbs.add_parser(
        "set",
        allow_abbrev=False,
        help="add or replace the rule of a domain",
        description="`*.example.com` is for the subdomains of example.com. Holds at each server by itself.",
        epilog="example: bin/mailcrew domains set gmail.com --per-minute 600 --per-day 20000",
    )
    new.add_argument("domain", metavar="DOMAIN")
    for limit in LIMITS:
        new.add_argument(f"--{limit.replace('_', '-')}", type=int, metavar="N")
    new.set_defaults(run=run_set)
    gone = verbs.add_parser(
        "unset",
        allow_abbrev=False,
        help="remove the rule of a domain",
        epilog="example: bin/mailcrew domains unset gmail.com",
    )
    gone.add_argument("domain", metavar="DOMAIN")
    gone.set_defaults(run=run_unset)
    shipped = verbs.add_parser(
        "use-defaults",
        allow_abbrev=False,
        help="add the shipped rules for domains that have none",
        epilog="example: bin/mailcrew domains use-defaults",
    )
    shipped.set_defaults(run=run_defaults)


def run_list(args: argparse.Namespace) -> int:
    _, db = open_home()
    rules = list_rules(db)
    if args.json:
        print(json.dumps([{"domain": rule.domain, "limits": _limits(rule)} for rule in rules]))
        return 0
    if not rules:
        print("no rule: mails to every domain go as fast as the servers may send; see bin/mailcrew domains set --help")
    for rule in rules:
        print(_line(rule))
    return 0


def run_set(args: argparse.Namespace) -> int:
    _, db = open_home()
    rule = set_rule(db, args.domain, now=db.now_ms(), **{limit: getattr(args, limit) for limit in LIMITS})
    print(_line(rule))
    return 0


def run_unset(args: argparse.Namespace) -> int:
    _, db = open_home()
    unset_rule(db, args.domain, now=db.now_ms())
    print(f"{domain_name(args.domain)} has no rule any more")
    return 0


def run_defaults(_args: argparse.Namespace) -> int:
    _, db = open_home()
    added = use_defaults(db, now=db.now_ms())
    for rule in added:
        print(_line(rule))
    print(f"{len(added)} {'rule' if len(added) == 1 else 'rules'} added; see bin/mailcrew domains list")
    return 0


def _limits(rule: DomainRule) -> dict[str, int | None]:
    limits = rule.limits
    return {limit: getattr(limits, limit) for limit in LIMITS}


def _line(rule: DomainRule) -> str:
    said = [f"{value} {name.replace('_', ' ')}" for name, value in _limits(rule).items() if value is not None]
    return f"{rule.domain:30} {', '.join(said)}"

"""`mailcrew tokens`: make and revoke the tokens of the HTTP API."""

from __future__ import annotations

import argparse
import json
from typing import Any

from app.cli.context import open_home
from app.models.tokens import SCOPES, create_token, revoke_token, tokens


def add(commands: Any) -> None:
    parser = commands.add_parser("tokens", help="make and revoke tokens of the HTTP API")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    new = verbs.add_parser(
        "create",
        allow_abbrev=False,
        help="make a token and print it, this once",
        epilog="example: bin/mailcrew tokens create grafana --scope read",
    )
    new.add_argument("name", metavar="NAME", help="who will use it; shown in the logs")
    new.add_argument(
        "--scope", choices=SCOPES, default="admin", help="read: look; send: also campaigns; admin: all (the default)"
    )
    new.set_defaults(run=run_create)
    show = verbs.add_parser(
        "list", allow_abbrev=False, help="show the tokens' names", epilog="example: bin/mailcrew tokens list --json"
    )
    show.add_argument("--json", action="store_true", help="one JSON document")
    show.set_defaults(run=run_list)
    end = verbs.add_parser(
        "revoke", allow_abbrev=False, help="end a token at once", epilog="example: bin/mailcrew tokens revoke grafana"
    )
    end.add_argument("name", metavar="NAME")
    end.set_defaults(run=run_revoke)


def run_create(args: argparse.Namespace) -> int:
    _, db = open_home()
    # Nothing else on stdout: TOKEN=$(bin/mailcrew tokens create …).
    print(create_token(args.name, args.scope, db.now_ms()))
    return 0


def run_list(args: argparse.Namespace) -> int:
    open_home()
    found = tokens()
    if args.json:
        print(json.dumps(found))
        return 0
    if not found:
        print("no token yet; make one: bin/mailcrew tokens create NAME")
    for one in found:
        state = f"revoked {one['revoked_at']}" if one["revoked_at"] else f"last used {one['last_used_at'] or 'never'}"
        print(f"{one['name']:30} {one['scope']:6} created {one['created_at']}  {state}")
    return 0


def run_revoke(args: argparse.Namespace) -> int:
    _, db = open_home()
    revoke_token(args.name, db.now_ms())
    print(f"token {args.name} revoked")
    return 0

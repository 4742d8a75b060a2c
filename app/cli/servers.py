"""`mailcrew servers`: the SMTP servers that campaigns are sent over; changing one: `app/cli/server_verbs.py`."""

from __future__ import annotations

import argparse
import json
from typing import Any

from app.cli import server_verbs
from app.cli.context import open_home
from app.db import Db
from app.mail.server_fields import LIMITS
from app.mail.server_views import UNCOUNTED, ServerView, server_document, server_views
from app.mail.servers import add_server
from app.mail.when import shown_at
from app.models.states import ServerState
from app.queues.broker import redis_client


def add(commands: Any) -> None:
    parser = commands.add_parser("servers", help="add, change, try out, pause and list SMTP servers")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    new = verbs.add_parser(
        "add",
        allow_abbrev=False,
        help="add an SMTP server",
        epilog="example: bin/mailcrew servers add ses-1 --host smtp.example.com --port 587 --tls starttls "
        "--user AKIA… --password-env SES_PASSWORD --per-second 14 --per-day 50000 --timezone UTC",
    )
    new.add_argument("name", metavar="NAME")
    server_verbs.add_options(new, needed=True)
    new.add_argument("--json", action="store_true", help='{"id"}')
    new.set_defaults(run=run_add)
    show = verbs.add_parser(
        "list",
        allow_abbrev=False,
        help="show the servers, what they may send and what they have sent",
        epilog="example: bin/mailcrew servers list --json",
    )
    show.add_argument("--json", action="store_true", help="one JSON document")
    show.set_defaults(run=run_list)
    server_verbs.add(verbs)


def run_add(args: argparse.Namespace) -> int:
    _, db = open_home()
    said = server_verbs.said(args)
    fixed = {key: said.pop(key) for key in ("host", "port")}
    server_id = add_server(name=args.name, tls=said.pop("tls", "none"), now=db.now_ms(), **fixed, **said)
    print(json.dumps({"id": server_id}) if args.json else f"server {args.name} added")
    return 0


def run_list(args: argparse.Namespace) -> int:
    settings, db = open_home()
    client = redis_client(settings.redis_url)
    try:
        views = server_views(db, client, db.now_ms())
    finally:
        client.close()
    if args.json:
        print(json.dumps([server_document(view) for view in views], ensure_ascii=False))
        return 0
    if not views:
        print("no server yet; add one: bin/mailcrew servers add NAME --host H --port P")
    for view in views:
        print(line(db, view))
    if any(view.used is None for view in views):
        print(f"what is used is not known: {UNCOUNTED}; see bin/supervisor-manager status")
    return 0


def line(db: Db, view: ServerView) -> str:
    """What people read of a server."""
    state = "can send" if view.can_send else f"blocked by {view.blocked_by}"
    if view.state == ServerState.PAUSED:
        state = view.blocked_by or ""
    if view.free_at is not None:
        state += f", free at {shown_at(view.free_at, view.timezone, db.now_ms())}"
    used = [
        f"{'?' if view.used is None else view.used.get(name, 0)}/{view.limits[name]} {name.replace('_', ' ')}"
        for name in LIMITS
        if view.limits[name] is not None
    ]
    if view.max_connections is not None:
        used.append(f"{'?' if view.connections is None else view.connections}/{view.max_connections} connections")
    weight = f"  weight {view.weight}" if view.weight != 1 else ""
    usage = f"  {', '.join(used)}" if used else ""
    return f"{view.name:20} {view.host}:{view.port:<6} tls {view.tls:9} {state}{weight}{usage}"

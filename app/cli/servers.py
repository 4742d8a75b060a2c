"""`mailcrew servers`: the SMTP servers that campaigns are sent over."""

from __future__ import annotations

import argparse
import json
from typing import Any

from app.cli.context import open_home
from app.cli.instants import iso
from app.mail.servers import TLS_KINDS, add_server
from app.models.tables import Server

LIMITS = ("per_second", "per_minute", "per_hour", "per_day")


def add(commands: Any) -> None:
    parser = commands.add_parser("servers", help="add and list SMTP servers")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    new = verbs.add_parser(
        "add",
        allow_abbrev=False,
        help="add an SMTP server",
        epilog="example: bin/mailcrew servers add ses-1 --host smtp.example.com --port 587 --tls starttls "
        "--user AKIA… --password-env SES_PASSWORD",
    )
    new.add_argument("name", metavar="NAME")
    new.add_argument("--host", required=True)
    new.add_argument("--port", type=int, required=True)
    new.add_argument("--tls", choices=TLS_KINDS, default="none", help="certificates are always checked")
    new.add_argument("--tls-ca", metavar="FILE", help="PEM file with the authority of a private certificate")
    new.add_argument("--user", help="user name for AUTH")
    new.add_argument("--password-env", metavar="VAR", help="variable that holds the password (environment or .env)")
    for limit in LIMITS:
        new.add_argument(f"--{limit.replace('_', '-')}", type=int, metavar="N")
    new.add_argument("--max-connections", type=int, metavar="N")
    new.add_argument("--json", action="store_true", help='{"id"}')
    new.set_defaults(run=run_add)
    show = verbs.add_parser(
        "list", allow_abbrev=False, help="show the servers", epilog="example: bin/mailcrew servers list --json"
    )
    show.add_argument("--json", action="store_true", help="one JSON document")
    show.set_defaults(run=run_list)


def run_add(args: argparse.Namespace) -> int:
    _, db = open_home()
    server_id = add_server(
        name=args.name, host=args.host, port=args.port, tls=args.tls, now=db.now_ms(),
        tls_ca=args.tls_ca, username=args.user, password_env=args.password_env,
        max_connections=args.max_connections, **{limit: getattr(args, limit) for limit in LIMITS},
    )  # fmt: skip
    print(json.dumps({"id": server_id}) if args.json else f"server {args.name} added")
    return 0


def run_list(args: argparse.Namespace) -> int:
    _, db = open_home()
    now = db.now_ms()
    servers = [_describe(server, now) for server in Server.select().order_by(Server.name)]
    if args.json:
        print(json.dumps(servers))
        return 0
    if not servers:
        print("no server yet; add one: bin/mailcrew servers add NAME --host H --port P")
    for one in servers:
        state = "can send" if one["can_send"] else f"blocked by {one['blocked_by']} until {one['free_at']}"
        print(f"{one['name']:20} {one['host']}:{one['port']:<6} tls {one['tls']:9} {state}")
    return 0


def _describe(server: Server, now: int) -> dict[str, Any]:
    cooling = (server.cooldown_until or 0) > now
    return {
        "id": server.id,
        "name": server.name,
        "host": server.host,
        "port": server.port,
        "tls": server.tls,
        "state": server.state,
        "can_send": server.state == "active" and not cooling,
        "blocked_by": server.cooldown_reason if cooling else None,
        "free_at": iso(server.cooldown_until) if cooling else None,
        "cooldown_until": iso(server.cooldown_until) if cooling else None,
        "limits": {limit: getattr(server, limit) for limit in LIMITS},
        "used": {},
    }

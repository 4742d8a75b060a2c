"""`mailcrew db`: bring the database to the present schema, or show where it stands."""

from __future__ import annotations

import argparse
import json
from functools import partial
from typing import Any

from app.config import Settings, make_home, settings
from app.db import connect, connect_url, migrate, migration_status


def add(commands: Any) -> None:
    parser = commands.add_parser("db", help="migrate the database, show its migrations")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    up = verbs.add_parser(
        "migrate", allow_abbrev=False, help="apply what is missing", epilog="example: bin/mailcrew db migrate"
    )
    up.set_defaults(run=run_migrate)
    status = verbs.add_parser(
        "status", allow_abbrev=False, help="show every migration", epilog="example: bin/mailcrew db status --json"
    )
    status.add_argument("--json", action="store_true", help="one JSON document")
    status.set_defaults(run=run_status)


def migrate_home(found: Settings) -> None:
    """Bring a home's database to the present schema, saying what is applied."""
    db = connect(found.database_url)
    for migration in migrate(db, partial(print, flush=True)):
        print(f"migrated: {migration}", flush=True)
    db.close()


def run_migrate(_args: argparse.Namespace) -> int:
    found = settings()
    make_home(found)
    applied = migrate(connect_url(found.database_url), partial(print, flush=True))
    print("\n".join(f"applied {name}" for name in applied) or "nothing to do")
    return 0


def run_status(args: argparse.Namespace) -> int:
    found = settings()
    make_home(found)
    status = migration_status(connect_url(found.database_url))
    if args.json:
        print(json.dumps([{"name": name, "applied": applied} for name, applied in status]))
    else:
        for name, applied in status:
            print(f"{'applied' if applied else 'MISSING':8} {name}")
    return 0 if all(applied for _, applied in status) else 1

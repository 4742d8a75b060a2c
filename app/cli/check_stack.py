"""`bin/supervisor-manager check`: one line per problem, for a person and for cron.

Every service is asked within seconds, so a check a minute never piles up, and two at once do no harm.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.text import Text

from app.cli.verbs import Commands, add_verb
from app.config import TABLE, Settings, make_home, settings
from app.errors import SettingError, Unavailable
from app.scaling.alert_routes import alert_server, mail, post, shown_way
from app.scaling.alerts import Alert, Message, Tell, tell
from app.watch.alarms import open_alarms, place_of, quiet_keys
from app.watch.answers import Asked
from app.watch.look import SECONDS, Look, Looker
from app.watch.machine import MIN_FREE_MB
from app.watch.noting import note, note_told
from app.watch.picture import open_existing
from app.watch.turn import take_watch

T = TypeVar("T")


def add_check(commands: Commands, root: Path) -> None:
    parser = add_verb(
        commands, "check", partial(check, root),
        "what needs somebody's attention", "check --webhook https://chat.example.com/hook",
        "Prints one line ALERT: … per problem and exits with 1, or one line OK … and exits with 0.",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="one JSON document")
    # Empty means: tell nobody that way, whatever the settings say.
    parser.add_argument("--webhook", type=str, metavar="URL", help="post new problems there (default: ALERT_WEBHOOK)")
    parser.add_argument("--mail", type=str, metavar="ADDR", help="mail new problems there (default: ALERT_MAIL)")
    parser.add_argument(
        "--repeat", metavar="MIN", help="tell what stays again after MIN (default: ALERT_REPEAT_MINUTES)"
    )
    parser.add_argument(
        "--min-free", type=int, default=MIN_FREE_MB, metavar="MB", help=f"free disk (default: {MIN_FREE_MB})"
    )


def check(root: Path, args: argparse.Namespace) -> int:
    """Look, print, tell; 1 when there is a problem."""
    try:
        found = _with_options(settings(), args)
    except SettingError as error:
        _print(args, [Alert("settings", "settings", str(error), "mend it; docs/operations.md lists them all")], "")
        return 1
    make_home(found)
    looked = Looker(found, root).look(args.min_free)
    alerts = list(looked.alerts)
    _print(args, alerts, looked.fine)
    quiet = _in_time(partial(_note, found, looked)) if _can_note(looked) else None
    ways = dict[str, Tell]()
    if found.alert_webhook:
        ways[f"webhook {found.alert_webhook}"] = partial(post, found.alert_webhook, found)
    if found.alert_mail:
        ways[f"mail {found.alert_mail}"] = partial(_mail, found)
    if ways:
        # Without the database nobody can be asked for silence, and nothing be written down; it is told all the same.
        told = partial(_note_told, found) if quiet is not None else _nothing
        for failure in tell(found, alerts, ways, time.time_ns() // 1_000_000, quiet=quiet or (), told=told):
            print(f"supervisor-manager: {failure}; tried again at the next check", file=sys.stderr)
    return 1 if alerts else 0


def _can_note(looked: Look) -> bool:
    return "database" not in looked.mute and all(one.kind != "database_migrations" for one in looked.alerts)


def _in_time(ask: Callable[[], T]) -> T | None:
    """What the database answers within seconds; None when it does not."""
    try:
        return Asked("the database", ask).answer(time.monotonic() + SECONDS)
    except Unavailable:
        return None


def _note(found: Settings, looked: Look) -> frozenset[str]:
    """Write down what there is, unless the web service does; the keys of what nobody wants to hear."""
    db, watch = open_existing(found.database_url), take_watch(found)
    try:
        now, place = db.now_ms(), place_of(found)
        alarms = note(db, place, looked.alerts, looked.mute, now) if watch else open_alarms(db)
        return quiet_keys(alarms, place, now)
    finally:
        if watch:
            watch.close()
        db.close()


def _note_told(found: Settings, way: str, message: Message) -> None:
    def write() -> None:
        db = open_existing(found.database_url)
        try:
            note_told(db, place_of(found), shown_way(way), message.alerts, message.resolved_keys, db.now_ms())
        finally:
            db.close()

    _in_time(write)


def _nothing(_way: str, _message: Message) -> None:
    """There is nowhere to write it down."""


def _with_options(found: Settings, args: argparse.Namespace) -> Settings:
    """The settings with the command line's word for each, held against the same rules."""
    said = {"ALERT_WEBHOOK": args.webhook, "ALERT_MAIL": args.mail, "ALERT_REPEAT_MINUTES": args.repeat}
    parse: dict[str, Callable[[str], object]] = {setting.name: setting.parse for setting in TABLE}
    return replace(found, **{name.lower(): parse[name](text) for name, text in said.items() if text is not None})  # type: ignore[arg-type]


def _mail(found: Settings, message: Message) -> None:
    server = partial(alert_server, found, partial(open_existing, found.database_url))
    # The servers stand in a database that may be frozen, and its own time-outs are longer than our minute.
    address = Asked("the database", server).answer(time.monotonic() + SECONDS)
    mail(found.alert_mail, found, lambda: address, message)


def _print(args: argparse.Namespace, alerts: list[Alert], fine: str) -> None:
    if args.json:
        document = {"ok": not alerts, "alerts": [alert.as_json() for alert in alerts]}
        print(json.dumps(document, ensure_ascii=False, indent=2))
        return
    # A line each, however long: cron mails them and scripts count them.
    console = Console(highlight=False, soft_wrap=True)
    for alert in alerts:
        console.print(Text.assemble(("ALERT: ", "bold red"), alert.line))
    if not alerts:
        console.print(Text.assemble(("OK ", "bold green"), fine))

"""`bin/quickstart`: the whole stack, one real campaign into the local catcher, and a verdict."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from app.campaigns.lifecycle import Draft, create_campaign, schedule_campaign
from app.campaigns.look import Look
from app.cli import main as mailcrew
from app.cli import supervisor
from app.cli.catcher import port_file
from app.cli.context import open_home
from app.cli.look import Watcher
from app.cli.monitor_campaign import watch
from app.cli.running import Parser, run
from app.cli.sample import Sample, write_sample
from app.config import ROOT, Settings
from app.db import Db
from app.errors import Refused, Unavailable, UsageError
from app.mail.caught import CaughtMail
from app.mail.server_changes import change_server, clear_cooldown
from app.mail.servers import add_server
from app.models.states import ServerState
from app.models.tables import Campaign, Server

SERVER = "quickstart-catcher"
EXAMPLE = ROOT / "examples" / "quickstart"
#: Without any change for this long, in seconds, something is wrong; a tick takes up to 60.
PATIENCE = 150.0

_console = Console(highlight=False)


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(
        prog="quickstart",
        description="Start the whole stack, send one real campaign into the local catcher, and count what arrived.",
        epilog="example: bin/quickstart --recipients 5000 --stop",
    )
    parser.add_argument("--recipients", type=int, default=5000, metavar="N", help="people to mail (default 5000)")
    parser.add_argument("--stop", action="store_true", help="stop everything at the end")
    parser.set_defaults(run=_run)
    return run(parser, argv)


def _run(args: argparse.Namespace) -> int:
    if not 1 <= args.recipients <= 2_000_000:
        raise UsageError(f"--recipients={args.recipients} is not allowed: 1 to 2000000")
    try:
        return _campaign(args.recipients)
    finally:
        if args.stop:
            _step("Stopping everything")
            supervisor.main(["stop"])


def _campaign(people: int) -> int:
    _step("Starting the stack")
    for command in (["start"], ["start", "catcher"]):
        _must("bin/supervisor-manager", command, supervisor.main)
    settings, db = open_home()
    _use_catcher(settings, db)

    _step("Importing people into two overlapping lists")
    sample = write_sample(settings.home / "quickstart", people)
    lists = [path.stem for path in (sample.first, sample.second)]
    for path, name in zip((sample.first, sample.second), lists, strict=True):
        _must("bin/mailcrew", ["lists", "import", str(path), "--list", name], mailcrew.main)

    _step("Scheduling a campaign")
    campaign_id = _schedule(db, lists)
    _say(f"campaign {campaign_id}; the tick at the full minute starts it")
    last = watch(_with_patience(Watcher(settings, db, campaign_id).look), 0.5)

    _step("Verdict, counted from what the catcher holds")
    return _verdict(settings, campaign_id, sample, last)


def _use_catcher(settings: Settings, db: Db) -> None:
    port = _catcher_port(port_file(settings))
    if Server.get_or_none((Server.name == SERVER) & (Server.state != ServerState.REMOVED)) is None:
        add_server(name=SERVER, host="127.0.0.1", port=port, tls="none", now=db.now_ms())
    change_server(db, SERVER, {"port": port})
    clear_cooldown(db, SERVER)


def _catcher_port(file: Path) -> int:
    """supervisord calls the catcher running a moment before it listens."""
    deadline = time.monotonic() + 30
    while not file.is_file():
        if time.monotonic() > deadline:
            raise Unavailable("the catcher does not listen; see bin/supervisor-manager logs catcher --errors")
        time.sleep(0.1)
    return int(file.read_text())


def _schedule(db: Db, lists: Sequence[str]) -> int:
    now = db.now_ms()
    campaign_id = create_campaign(
        db,
        Draft(
            name="Quickstart", subject="{{ name | default('Hello') }}: what is new in {{ city }} – 春の便り",
            sender="Example Shop <news@shop.example>", lists=lists, servers=[SERVER],
            html=(EXAMPLE / "mail.html").read_text(), text=(EXAMPLE / "mail.txt").read_text(),
        ),
        now,
    )  # fmt: skip
    schedule_campaign(db, campaign_id, now, now)
    return campaign_id


def _with_patience(look: Callable[[], Look]) -> Callable[[], Look]:
    """The same look, but giving up when nothing has changed for PATIENCE seconds."""
    seen: tuple[object, ...] = ()
    since = time.monotonic()

    def patient() -> Look:
        nonlocal seen, since
        now = look()
        p = now.progress
        state = (p.status, p.recipients, p.done)
        if state != seen:
            seen, since = state, time.monotonic()
        elif time.monotonic() - since > PATIENCE:
            raise Refused(
                f"campaign {p.campaign_id} has not moved for {PATIENCE:.0f} s; see bin/check-campaign {p.campaign_id} "
                "and bin/supervisor-manager status"
            )
        return now

    return patient


def _verdict(settings: Settings, campaign_id: int, sample: Sample, last: Look) -> int:
    caught = CaughtMail(settings.home / "catcher.db")
    key = f"{campaign_id}.{Campaign.get_by_id(campaign_id).message_key}"
    reached = {address.casefold() for address in caught.recipients(key)}
    duplicates = caught.duplicates(key)
    missing, unexpected = sample.expected - reached, reached - sample.expected
    p = last.progress
    rows = [
        ("recipients", len(sample.expected)),
        ("sent", len(reached & sample.expected)),
        ("skipped", p.skipped),
        ("failed", p.failed),
        ("unknown", p.unknown),
        ("missing", len(missing)),
        ("not meant", len(unexpected)),
        ("duplicates", len(duplicates)),
    ]
    for label, count in rows:
        _say(f"{label:<12}{count:>10,}")
    good = not missing and not unexpected and not duplicates and p.status == "sent" and p.sent == len(sample.expected)
    if good:
        _say(f"[bold green]Every one of {len(reached):,} recipients got exactly one mail.[/]")
        _say("next: bin/supervisor-manager status · bin/check-campaign " + str(campaign_id) + " · docs/operations.md")
        return 0
    examples = ", ".join(sorted(missing)[:3] + sorted(unexpected)[:3] + [address for address, _ in duplicates[:3]])
    why = f"for example {examples}" if examples else f"campaign {p.status}, {p.unknown} unknown, {p.failed} failed"
    _say(f"[bold red]Not proven that everyone got exactly one mail[/] ({why})")
    return 1


def _must(program: str, argv: list[str], command: Callable[[list[str]], int]) -> None:
    _say(f"[dim]$ {program} {shlex.join(_short(argv))}[/]")
    if command(argv) != 0:
        raise Refused(f"{program} {argv[0]} did not succeed")


def _short(argv: list[str]) -> list[str]:
    root = f"{ROOT}/"
    return [word.removeprefix(root) if word.startswith(root) else word for word in argv]


def _step(text: str) -> None:
    _console.print(f"\n[bold]{text}[/]")


def _say(text: str) -> None:
    _console.print(f"  {text}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())

"""`bin/mailcrew check`: whether everything is set up as it must be, every problem listed."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.text import Text

from app.config import ROOT, Settings, make_home, read_settings, setting_problems
from app.errors import MailcrewError, Unavailable, UsageError
from app.scaling.alerts import Alert
from app.scaling.declared import Declared, declared
from app.scaling.files import make_renderer, marked_stopped
from app.scaling.groups import connected
from app.scaling.lint import lint
from app.scaling.memory import machine_mb
from app.scaling.redis_server import find_redis_server
from app.scaling.table import Table, load_table
from app.watch.answers import Asked
from app.watch.machine import disk_alerts, limit_alerts, permission_alerts, port_alerts
from app.watch.services import ask_database, ask_redis, database_alerts, database_remedy, redis_alerts

SECONDS = 5.0
T = TypeVar("T")


@dataclass
class Report:
    """What was looked at (a line each, in order), the problems, and what a person should know all the same."""

    looked_at: dict[str, str] = field(default_factory=dict)
    problems: list[Alert] = field(default_factory=list)
    warnings: list[Alert] = field(default_factory=list)
    sums: Declared | None = None

    def add(self, what: str, fine: str, problems: list[Alert]) -> None:
        self.looked_at[what] = fine
        self.problems += problems


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "check",
        help="whether everything is set up as it must be",
        description="Looks at settings, database, Redis, the table of queues, permissions and limits.",
        epilog="example: bin/mailcrew check --json",
    )
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.set_defaults(run=_check)


def _check(args: argparse.Namespace) -> int:
    report = examine(os.environ, ROOT)
    if args.json:
        print(json.dumps(as_document(report), ensure_ascii=False, indent=2))
    else:
        _show(report)
    return 1 if report.problems else 0


def examine(environ: Mapping[str, str], root: Path) -> Report:
    """Look at everything that can be looked at; a setting that is not allowed ends it, all of them listed."""
    report = Report()
    wrong = [
        Alert(f"setting:{error.name}", "settings", str(error), "mend it in the environment or in .env")
        for error in setting_problems(environ, root)
    ]
    report.add("settings", "all allowed", wrong)
    if wrong:
        return report
    found = read_settings(environ, root)
    try:
        make_home(found)
    except UsageError as error:
        report.add("home", "", [Alert("home", "home", str(error), "choose another MAILCREW_HOME")])
        return report
    database = Asked("the database", partial(ask_database, found.database_url))
    redis = Asked("Redis", partial(ask_redis, found, SECONDS))
    deadline = time.monotonic() + SECONDS
    table = _table(report, found, root)
    _database(report, database, deadline, report.sums, database_remedy(found.database_url))
    _redis(report, redis, deadline, found)
    report.add("home", str(found.home), [*permission_alerts(found), *disk_alerts(found)])
    report.add("ports", "{}:{}".format(*found.http_bind), port_alerts(found))
    if table and report.sums:
        report.add("limits", "open files and processes suffice", limit_alerts(table, report.sums))
        _memory(report, report.sums)
    return report


def _table(report: Report, found: Settings, root: Path) -> Table | None:
    try:
        table = load_table(found.table_of(root), found.worker_concurrency)
        report.sums = declared(table, found.redis_is_embedded)
        # A file in the home stands for what supervisord reads, a person's own ones among them.
        there = {f"conf.d/{path.name}": path.read_text("utf-8") for path in sorted(found.conf_d.glob("*.conf"))}
        rendered = make_renderer(found, root).all(table, marked_stopped(found))
        programs = {name: text for name, text in rendered.items() if name.startswith("conf.d/")}
        problems = lint({**programs, **there}, table, found.stop_grace_seconds)
    except (MailcrewError, OSError, UnicodeDecodeError) as error:
        report.add("queues", "", [Alert("table", "queues", str(error), "mend it, then bin/supervisor-manager update")])
        return None
    old = sorted(name for name, text in programs.items() if there.get(name, text) != text)
    if old:
        what = f"{', '.join(old)} differ from the table of queues"
        report.warnings.append(Alert("old", "queues", what, "bin/supervisor-manager update applies it"))
    queues = sum(q.processes > 0 for q in table.queues)
    report.add(
        "queues", f"{len(table.queues)} queues ({queues} with workers), {len(table.services)} services", problems
    )
    return table


def _database(report: Report, asked: Asked[Any], deadline: float, sums: Declared | None, remedy: str) -> None:
    try:
        facts = asked.answer(deadline)
        fine = f"{facts.version}, every migration applied"
        report.add("database", fine, database_alerts(facts, sums.max_connections if sums else None))
    except Unavailable as error:
        report.add("database", "", [Alert("database", "database", str(error), remedy)])


def _redis(report: Report, asked: Asked[Any], deadline: float, found: Settings) -> None:
    try:
        said = asked.answer(deadline)
        report.add("redis", f"version {said.get('redis_version')}, keeps every message", redis_alerts(said))
        return
    except Unavailable as error:
        silent = Alert("redis", "redis", str(error), "bin/supervisor-manager start, or see REDIS_URL")
    if not found.redis_is_embedded or _is_up(found):
        report.add("redis", "", [silent])
        return
    try:
        report.add("redis", f"{find_redis_server()}, starts with bin/supervisor-manager start", [])
    except Unavailable as error:
        report.add("redis", "", [Alert("redis", "redis", str(error), "then bin/supervisor-manager start")])


def _is_up(found: Settings) -> bool:
    def state() -> str | None:
        with connected(found) as client:
            return client.state()

    try:
        return Asked("supervisord", state).answer(time.monotonic() + SECONDS) is not None
    except Unavailable:
        return True


def _memory(report: Report, sums: Declared) -> None:
    machine = machine_mb()
    report.add("memory", f"{_gigabytes(machine)} in this machine" if machine else "the machine does not say", [])
    if machine is None or sums.max_memory_mb <= machine:
        return
    if sums.memory_mb > machine:
        what = (
            f"{sums.processes} processes may take {_gigabytes(sums.memory_mb)},"
            f" and the machine has {_gigabytes(machine)}"
        )
    else:
        what = (
            f"with every queue at its maximum {sums.max_processes} processes may take {_gigabytes(sums.max_memory_mb)},"
            f" and the machine has {_gigabytes(machine)}"
        )
    remedy = "lower processes, max or memory in the table of queues, or add memory"
    report.warnings.append(Alert("memory", "memory", what, remedy))


def as_document(report: Report) -> dict[str, Any]:
    """The report as one JSON document; memory in MB."""
    sums = report.sums
    return {
        "ok": not report.problems,
        "problems": [alert.as_json() for alert in report.problems],
        "warnings": [alert.as_json() for alert in report.warnings],
        "processes": {"floor": sums.processes, "max": sums.max_processes} if sums else None,
        "memory_mb": {"floor": sums.memory_mb, "max": sums.max_memory_mb, "machine": machine_mb()} if sums else None,
    }


def _show(report: Report) -> None:
    console = Console(highlight=False, soft_wrap=True)
    width = max(len(what) for what in report.looked_at) + 2
    for what, fine in report.looked_at.items():
        mine = [alert for alert in report.problems if _belongs(alert, what)]
        if not mine:
            console.print(Text.assemble(("ok       ", "green"), f"{what:<{width}}{fine}"))
        for alert in mine:
            console.print(Text.assemble(("PROBLEM  ", "bold red"), f"{what:<{width}}{alert.what}; {alert.remedy}"))
    for alert in report.warnings:
        console.print(Text.assemble(("warning  ", "yellow"), f"{alert.where:<{width}}{alert.what}; {alert.remedy}"))
    if report.sums:
        sums = report.sums
        console.print(
            f"{sums.processes} processes that may take {_gigabytes(sums.memory_mb)} of memory; "
            f"with every queue at its maximum {sums.max_processes} and {_gigabytes(sums.max_memory_mb)}"
        )
    count = len(report.problems)
    console.print(Text(f"{count} {'problem' if count == 1 else 'problems'}" if count else "no problem", style="bold"))


def _belongs(alert: Alert, what: str) -> bool:
    places = {"home": ("home", "permissions", "disk")}
    return alert.where in places.get(what, (what,)) or (what == "queues" and alert.key.startswith("lint:"))


def _gigabytes(mb: float) -> str:
    return f"{mb / 1000:.2f} GB"

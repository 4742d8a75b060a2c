"""What `bin/supervisor-manager status` shows: every queue with its workers and its load, then the services."""

from __future__ import annotations

import argparse
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from app.cli.verbs import Commands, add_verb
from app.config import Settings, settings
from app.errors import UsageError
from app.scaling.memory import machine_mb
from app.scaling.supervisord import Process
from app.watch.picture import Gatherer, Owner, Picture
from app.watch.picture import Group as Processes

REDRAW_SECONDS = 2.0
#: Where it is no terminal nobody folds lines, so none is cut.
WIDE = 200
GOOD, BAD, SOON = "green", "bold red", "yellow"
COLUMNS = ("", "RUNNING", "BACKLOG", "OLDEST", "IN HAND", "RATE/s", "MEMORY", "UP")


def add_status(commands: Commands, root: Path) -> None:
    parser = add_verb(commands, "status", partial(status, root), "what runs and what does not", "status --json")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--watch", action="store_true", help="redraw every 2 seconds, until Ctrl-C")


def status(root: Path, args: argparse.Namespace) -> int:
    """Run the command; 1 when supervisord does not run."""
    if args.json and args.watch:
        raise UsageError("--json and --watch do not go together: --json prints one document")
    return print_status(settings(), root, as_json=args.json, watch=args.watch)


def print_status(found: Settings, root: Path, *, as_json: bool, watch: bool) -> int:
    """Print it, with `watch` again and again until Ctrl-C; 0 when supervisord answers, 1 when it does not run."""
    gatherer = Gatherer(found, root)
    if watch:
        return _watch(gatherer)
    picture = gatherer.picture()
    if as_json:
        print(json.dumps(as_document(picture), ensure_ascii=False, indent=2))
    else:
        console = _console()
        console.print(draw(picture), soft_wrap=not console.is_terminal)
    return 0 if picture.state is not None else 1


def _watch(gatherer: Gatherer) -> int:
    """Redraw in place; on a terminal's other screen, whose last picture is left behind when it closes."""
    console = _console()
    picture = gatherer.picture()
    try:
        if not console.is_terminal:
            while True:
                console.print(draw(picture), soft_wrap=True)
                time.sleep(REDRAW_SECONDS)
                picture = gatherer.picture()
        with Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
            while True:
                live.update(draw(picture), refresh=True)
                time.sleep(REDRAW_SECONDS)
                picture = gatherer.picture()
    except KeyboardInterrupt:
        if console.is_terminal:
            console.print(draw(picture))
    return 0 if picture.state is not None else 1


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDE)


def draw(picture: Picture) -> RenderableType:
    """The picture for people."""
    lines: list[RenderableType] = [_head(picture)]
    if picture.state is None and "supervisord" not in picture.troubles:
        return lines[0]
    for who, why in picture.troubles.items():
        without = {"redis": "; the queues' figures are missing", "database": "; the campaigns' figures are missing"}
        lines.append(Text(f"! {why}{without.get(who, '')}", style=SOON))
    if not picture.owners:
        return Group(*lines)
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    for number, title in enumerate(COLUMNS):
        table.add_column(title, justify="left" if number == 0 else "right", no_wrap=True)
    table.add_column("", no_wrap=True)
    kind = picture.owners[0].kind
    for owner in picture.owners:
        if (owner.kind == "service") != (kind == "service"):
            table.add_row()
        kind = owner.kind
        _add_owner(table, picture, owner)
    return Group(*lines, Text(), table)


def _head(picture: Picture) -> Text:
    if "supervisord" in picture.troubles:
        return Text(f"supervisord is not known to run: {picture.home}", style=BAD)
    if picture.state is None:
        return Text(f"not running: {picture.home}")
    total = sum(picture.memory.values())
    machine = machine_mb()
    memory = f", memory {_size(total)}{f' of {_size(machine)}' if machine else ''}" if picture.memory else ""
    pid = f", pid {picture.pid}" if picture.pid else ""
    return Text(f"supervisord {picture.state.lower()}{pid}: {picture.home}{memory}")


def _add_owner(table: Table, picture: Picture, owner: Owner) -> None:
    load = owner.load
    good = owner.running >= owner.wanted
    if owner.stopped_by_hand:
        note = Text("stopped by hand", style=SOON)
    elif not owner.processes:
        note = Text("processes = 0", style="dim")
    elif owner.kind == "service" and not owner.wanted:
        note = Text("not started", style="dim")
    else:
        note = Text(f"{load.later:,} later" if load.later else "", style="dim")
    alone = owner.processes[0] if owner.kind == "service" and len(owner.processes) == 1 else None
    up = alone.uptime if alone and alone.state == "RUNNING" else None
    empty = owner.kind == "service" or (not owner.processes and not load.backlog)
    late = _too_long(picture, owner)
    table.add_row(
        Text(owner.title, style="dim" if not owner.processes else "bold"),
        Text(f"{owner.running}/{owner.wanted}", style="dim" if not owner.wanted else GOOD if good else BAD),
        Text(f"pid {alone.pid}", style="dim") if up is not None and alone else _figure(load.backlog, empty, late),
        Text(_span(load.oldest_seconds) if load.oldest_seconds is not None else "", style=BAD if late else ""),
        _figure(load.in_flight, empty),
        _figure(load.rate_per_second, empty),
        _size(owner.memory_mb) if owner.memory_mb is not None else "",
        _span(up) if up is not None else "",
        _trouble(alone) if alone and up is None and alone.state != "STOPPED" else note,
    )
    if not alone:
        for group in owner.groups:
            _add_processes(table, picture, group, by_tasks=owner.name != "send" and owner.kind != "campaign")


def _add_processes(table: Table, picture: Picture, group: Processes, by_tasks: bool) -> None:
    for process in group.processes:
        if process.state == "STOPPED" and (group.stopped_by_hand or group.wanted == 0):
            continue
        runs = process.state == "RUNNING"
        heard = picture.heartbeat(process)
        memory = picture.memory.get(process.pid)
        table.add_row(
            Text(f"  {process.name}"),
            "" if runs else Text(process.state, style=BAD if process.state in ("FATAL", "BACKOFF") else SOON),
            Text(f"pid {process.pid}" if process.pid else "", style="dim"),
            "",
            _at_work(picture, process),
            Text(f"{heard.rate_per_second:,.1f}" if heard and by_tasks else "", style="dim"),
            _size(memory) if memory is not None else "",
            _span(process.uptime) if runs else "",
            _restarting(picture, process) if runs else _detail(process),
        )


def _too_long(picture: Picture, owner: Owner) -> bool:
    queue = picture.table.queue(owner.name) if picture.table else None
    return bool(queue and owner.load.backlog and owner.load.backlog >= queue.backlog_alert)


def _trouble(process: Process) -> Text:
    """Why the one process of a service is not up."""
    return Text(f"{process.state} ", style=SOON).append_text(_detail(process))


def _detail(process: Process) -> Text:
    """supervisord's reason; of a stopped or stopping one it only has the time of day."""
    if process.state == "STOPPED":
        return Text("not by our stop", style=SOON)
    return Text("" if process.state == "STOPPING" else process.detail, style=SOON)


def _at_work(picture: Picture, process: Process) -> Text:
    heard = picture.heartbeat(process)
    if heard:
        return Text("busy" if heard.is_processing else "idle", style="dim")
    if process.state != "RUNNING" or picture.heartbeats is None:
        return Text()
    return Text("silent", style=BAD) if picture.is_silent(process) else Text("begins", style="dim")


def _restarting(picture: Picture, process: Process) -> Text:
    """A worker that waits before it starts runs for supervisord, and does nothing."""
    trouble = picture.restarts.get(process.name)
    if trouble is None:
        return Text()
    left = trouble.waiting_until - time.time()
    again = f", starts in {left:.0f} s" if left > 0 else ""
    return Text(f"ended {trouble.count} times at once{again}: {trouble.reason}", style=BAD)


def _figure(value: float | None, empty: bool, late: bool = False) -> Text:
    if value is None:
        return Text("" if empty else "?", style=SOON)
    shown = f"{value:,.1f}" if 0 < value < 100 and isinstance(value, float) else f"{value:,.0f}"
    return Text("" if empty else shown, style=BAD if late else "")


def _size(mb: float) -> str:
    return f"{mb / 1000:.1f} GB" if mb >= 1000 else f"{mb:.0f} MB"


def _span(seconds: float) -> str:
    days, rest = divmod(int(seconds), 86_400)
    clock = f"{rest // 3600}:{rest // 60 % 60:02d}:{rest % 60:02d}"
    return f"{days}d {clock}" if days else clock


def as_document(picture: Picture) -> dict[str, Any]:
    """The picture as one JSON document. Times are seconds, memory is MB; null: not known."""
    return {
        "home": str(picture.home),
        "running": picture.state is not None,
        "state": picture.state or "STOPPED",
        "pid": picture.pid,
        "memory_mb": round(sum(picture.memory.values()), 1) if picture.memory else None,
        "troubles": picture.troubles,
        "queues": [_owner(owner) for owner in picture.owners if owner.kind != "service"],
        "groups": [_group(picture, group) for owner in picture.owners for group in owner.groups],
    }


def _owner(owner: Owner) -> dict[str, Any]:
    return {
        "name": owner.name,
        "kind": owner.kind,
        "running": owner.running,
        "wanted": owner.wanted,
        "stopped_by_hand": owner.stopped_by_hand,
        "backlog": owner.load.backlog,
        "later": owner.load.later,
        "in_flight": owner.load.in_flight,
        "oldest_seconds": owner.load.oldest_seconds,
        "rate_per_second": owner.load.rate_per_second,
        "memory_mb": owner.memory_mb,
    }


def _group(picture: Picture, group: Processes) -> dict[str, Any]:
    return {
        "name": group.name,
        "kind": group.kind,
        "owner": group.owner,
        "wanted": group.wanted,
        "running": group.running,
        "stopped_by_hand": group.stopped_by_hand,
        "processes": [_process(picture, process) for process in group.processes],
    }


def _process(picture: Picture, process: Process) -> dict[str, Any]:
    heard = picture.heartbeat(process)
    return {
        "name": process.name,
        "state": process.state,
        "pid": process.pid or None,
        "uptime": process.uptime,
        "detail": process.detail,
        "memory_mb": picture.memory.get(process.pid),
        "is_processing": heard.is_processing if heard else None,
        "processed_count": heard.processed_count if heard else None,
    }

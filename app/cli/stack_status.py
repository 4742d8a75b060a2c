"""What `bin/supervisor-manager status` shows: every group, its processes, what is missing."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from app.config import Settings
from app.errors import UsageError
from app.scaling.files import marked_stopped
from app.scaling.groups import connected
from app.scaling.supervisord import Configured, Process
from app.scaling.table import Table, load_table


@dataclass(frozen=True)
class Group:
    """One group as a person asks about it; `wanted` processes should run at present."""

    name: str
    kind: str
    wanted: int
    stopped_by_hand: bool
    processes: tuple[Process, ...]

    @property
    def running(self) -> int:
        return sum(p.state == "RUNNING" for p in self.processes)

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "kind": self.kind,
            "wanted": self.wanted,
            "running": self.running,
            "stopped_by_hand": self.stopped_by_hand,
            "processes": [
                {"name": p.name, "state": p.state, "pid": p.pid or None, "uptime": p.uptime, "detail": p.detail}
                for p in self.processes
            ],
        }


def print_status(settings: Settings, root: Path, as_json: bool) -> int:
    """Print it; 0 when supervisord answers, 1 when it does not run."""
    with connected(settings) as client:
        state = client.state()
        pid, groups = None, list[Group]()
        if state not in (None, "SHUTDOWN"):
            pid = client.pid()
            groups = arrange(_table(root), client.configured(), client.processes(), marked_stopped(settings))
    if as_json:
        document = {
            "home": str(settings.home),
            "running": state is not None,
            "state": state or "STOPPED",
            "pid": pid,
            "groups": [group.as_json() for group in groups],
        }
        print(json.dumps(document, ensure_ascii=False, indent=2))
    else:
        _print_for_people(settings, state, pid, groups)
    return 0 if state is not None else 1


def arrange(
    table: Table | None, configured: list[Configured], processes: list[Process], stopped: frozenset[str]
) -> list[Group]:
    """Groups by priority, then the queues that have no process."""
    queues = {q.name for q in table.queues} if table else set[str]()
    services = {s.name for s in table.services} if table else set[str]()
    autostart = {c.group for c in configured if c.autostart}
    groups = []
    priority = {c.group: c.priority for c in configured}
    present = sorted({p.group for p in processes}, key=lambda group: (priority.get(group, 0), group))
    for name in dict.fromkeys([*present, *sorted(queues)]):
        members = tuple(p for p in processes if p.group == name)
        by_itself = name in autostart and name not in stopped
        up = sum(p.state in ("RUNNING", "STARTING") for p in members)
        groups.append(
            Group(
                name=name,
                kind="service" if name in services else "queue",
                wanted=len(members) if by_itself else up,
                stopped_by_hand=name in stopped,
                processes=members,
            )
        )
    return groups


def _table(root: Path) -> Table | None:
    """A table that somebody is just editing must not keep the status from being shown."""
    try:
        return load_table(root / "supervisor" / "queues.toml")
    except UsageError as error:
        print(f"supervisor-manager: {error}", file=sys.stderr)
        return None


def _print_for_people(settings: Settings, state: str | None, pid: int | None, groups: list[Group]) -> None:
    # A long line is better than one folded in the middle of a pid; colour only on a terminal.
    console = Console(highlight=False, soft_wrap=True)
    if state is None:
        console.print(Text(f"not running: {settings.home}"))
        return
    console.print(Text(f"supervisord {state.lower()}{f', pid {pid}' if pid else ''}: {settings.home}"))
    width = max((len(group.name) for group in groups), default=0)
    for group in groups:
        colour = "green" if group.running >= group.wanted else "red"
        count = f"{group.running}/{group.wanted}"
        note = "stopped by hand" if group.stopped_by_hand else "" if group.processes else "processes = 0"
        console.print(Text.assemble(f"{group.name:<{width}}  ", (f"{count:>5}", colour), f"  {note}"))
        for process in group.processes:
            if process.state == "STOPPED":
                continue
            good = process.state == "RUNNING"
            where = f"pid {process.pid}, up {_span(process.uptime)}" if good else process.detail
            console.print(
                Text.assemble(
                    f"{'':<{width}}         {process.name:<{width + 4}} ",
                    (f"{process.state:<9}", "green" if good else "yellow"),
                    f" {where}",
                )
            )


def _span(seconds: int) -> str:
    days, rest = divmod(seconds, 86_400)
    clock = f"{rest // 3600}:{rest // 60 % 60:02d}:{rest % 60:02d}"
    return f"{days}d {clock}" if days else clock

"""Which processes on this machine belong to a home, whoever is their parent now.

supervisord puts SUPERVISOR_GROUP_NAME into the environment of what it starts, and we put
MAILCREW_HOME there, so /proc tells even when that supervisord is long dead.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from app.scaling.render import STOP_LAST

PROC = Path("/proc")
SUPERVISORD = "supervisord"


@dataclass(frozen=True)
class Found:
    """One process of a home; `group` is SUPERVISORD for supervisord itself."""

    pid: int
    parent: int
    group: str
    name: str
    stops_last: bool

    @property
    def is_supervisord(self) -> bool:
        return self.group == SUPERVISORD


def processes_of(home: Path) -> list[Found]:
    """Every living process of the home except this one and its ancestors, ordered by pid."""
    wanted, mine = os.path.realpath(home), _ancestors()
    pids = sorted(int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit())
    return [found for pid in pids if pid not in mine and (found := _look(pid, wanted))]


def roots(found: list[Found]) -> list[Found]:
    """Those that no other process of the home will stop: supervisord, and what lost its supervisord."""
    pids = {process.pid for process in found}
    return [process for process in found if process.parent not in pids]


def _look(pid: int, home: str) -> Found | None:
    try:
        environment = _environment(pid)
        # A process that has ended and one of another user look the same: empty or not to be read.
        if os.path.realpath(environment.get("MAILCREW_HOME") or "/") != home:
            return None
        group = environment.get("SUPERVISOR_GROUP_NAME")
        if _is_supervisord(pid):
            group = SUPERVISORD
        if group is None:
            return None
        return Found(
            pid=pid,
            parent=_parent(pid),
            group=group,
            name=SUPERVISORD if group == SUPERVISORD else environment.get("SUPERVISOR_PROCESS_NAME", group),
            stops_last=STOP_LAST in environment,
        )
    except OSError:
        return None


def _environment(pid: int) -> dict[str, str]:
    entries = (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    pairs = (os.fsdecode(entry).partition("=") for entry in entries)
    return {key: value for key, _, value in pairs}


def _is_supervisord(pid: int) -> bool:
    words = (PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    named = any(word == b"supervisor.supervisord" or word.endswith(b"/supervisord") for word in words[:4])
    return named and any(word.endswith(b"/supervisord.conf") for word in words)


def _parent(pid: int) -> int:
    # The name in parentheses may itself hold spaces and parentheses; the parent is the second after it.
    stat = (PROC / str(pid) / "stat").read_text(errors="replace")
    return int(stat.rpartition(")")[2].split()[1])


def _ancestors() -> set[int]:
    pid, found = os.getpid(), set[int]()
    while pid > 0 and pid not in found:
        found.add(pid)
        try:
            pid = _parent(pid)
        except OSError:
            break
    return found

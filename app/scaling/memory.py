"""Memory: what processes hold, and what this machine has for them."""

from __future__ import annotations

import resource
from collections.abc import Iterable
from pathlib import Path

PROC = Path("/proc")
# Where a container's limit stands: cgroup version 2, then version 1.
CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def tree_mb(pids: Iterable[int]) -> dict[int, float]:
    """What each process and its descendants hold, in MB; a pid that is gone is left out."""
    resident, children = dict[int, float](), dict[int, list[int]]()
    for entry in PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # The name in parentheses may itself hold spaces and parentheses.
            fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        pid, parent = int(entry.name), int(fields[1])
        resident[pid] = int(fields[21]) * resource.getpagesize() / 1e6
        children.setdefault(parent, []).append(pid)
    return {pid: round(_sum(pid, resident, children), 1) for pid in pids if pid in resident}


def machine_mb() -> float | None:
    """The memory that processes here may use, in MB; None when the machine does not say."""
    found = []
    try:
        line = next(line for line in (PROC / "meminfo").read_text().splitlines() if line.startswith("MemTotal:"))
        found.append(int(line.split()[1]) * 1024 / 1e6)
    except (OSError, StopIteration, ValueError, IndexError):
        pass  # not Linux's
    for path in CGROUP_LIMITS:
        try:
            found.append(int(path.read_text()) / 1e6)
        except (OSError, ValueError):
            continue  # no such version, or "max"
    return round(min(found), 1) if found else None


def _sum(pid: int, resident: dict[int, float], children: dict[int, list[int]]) -> float:
    total, waiting, seen = 0.0, [pid], set[int]()
    while waiting:
        one = waiting.pop()
        if one not in seen:
            seen.add(one)
            total += resident.get(one, 0.0)
            waiting += children.get(one, [])
    return total

"""Follows every .err log and alarms on new lines that tell of trouble: one alarm a file and minute at most."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from app.config import settings
from examples.giftshop.watching import watch

LOOK_SECONDS = 2.0
QUIET_SECONDS = 60.0
#: Whoever carries the alarms must not raise them: one alarm would become the next.
CARRIERS = ("wechat-message", "log-monitor", "backlog-monitor")
LONGEST_READ = 1_000_000
#: Programs that are not ours write everything to stderr; these words tell trouble from talk there.
TROUBLE = re.compile(r"error|exception|traceback|warning|critical|fatal|failed", re.IGNORECASE)


@dataclass
class _File:
    """How far one log has been read; `inode` changes when it is rotated."""

    inode: int
    at: int
    quiet_until: float = 0.0
    found: list[str] = field(default_factory=list)


class LogMonitor:
    """What was there at the first look counts as known."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._files: dict[Path, _File] | None = None

    def look(self, now: float) -> Iterator[str]:
        """Alarms for what was added since the last look."""
        first = self._files is None
        files = self._files = self._files or {}
        for path in sorted(self._logs.glob("*.err")):
            if path.name.startswith(CARRIERS):
                continue
            try:
                state = path.stat()
                known = files.setdefault(path, _File(state.st_ino, state.st_size if first else 0))
                if known.inode != state.st_ino or state.st_size < known.at:
                    known.inode, known.at = state.st_ino, 0
                known.found += self._added(path, known)
            except FileNotFoundError:
                continue  # rotated just now: the next look finds the new one
            if known.found and now >= known.quiet_until:
                more = f" (and {len(known.found) - 1} more lines)" if len(known.found) > 1 else ""
                yield f"{path.stem}: {known.found[0]}{more}"
                known.found.clear()
                known.quiet_until = now + QUIET_SECONDS

    @staticmethod
    def _added(path: Path, known: _File) -> list[str]:
        with path.open("rb") as file:
            file.seek(known.at)
            added = file.read(LONGEST_READ)
        # A line without its end is still being written.
        whole = added[: added.rfind(b"\n") + 1]
        if not whole and len(added) == LONGEST_READ:
            whole = added
        known.at += len(whole)
        return [found for line in whole.decode(errors="replace").splitlines() if (found := trouble_of(line))]


def trouble_of(line: str) -> str | None:
    """What a line tells of trouble, in short; None when it tells of none."""
    try:
        said = json.loads(line)
        if said["level"] in ("debug", "info"):
            return None
        return ": ".join(str(said[name]) for name in ("event", "reason") if said.get(name))[:300]
    except (ValueError, TypeError, KeyError):
        return line[:300] if TROUBLE.search(line) else None


def main() -> int:
    return watch(f"logs, process {os.getpid()}", LogMonitor(settings().logs).look, LOOK_SECONDS)


if __name__ == "__main__":
    sys.exit(main())

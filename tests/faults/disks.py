"""Small disks that run full, and have room again."""

from __future__ import annotations

import errno
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tests.faults.matrix import Skipped

if TYPE_CHECKING:
    from tests.faults.arena import Arena


def mount(where: Path, size: str) -> Callable[[], object]:
    """Put a disk of this size at a directory; what is returned takes it away. Raises Skipped where none may be."""
    where.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(where)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        raise Skipped("a small disk cannot be mounted here: there is no mount command") from None
    if done.returncode:
        raise Skipped(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    return lambda: subprocess.run(["umount", "-l", str(where)], check=True)


def fill(where: Path) -> Path:
    """Take all the room there is; the file that has it."""
    ballast = where / "ballast"
    with ballast.open("ab", buffering=0) as file:
        for piece in (1 << 20, 1 << 12):
            try:
                while file.write(bytes(piece)):
                    pass
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
    return ballast


def journals_disk(arena: Arena) -> Callable[[], object]:
    """Room for the journal of one worker."""
    return mount(arena.settings.journals, "6m")


def grow_journals_disk(arena: Arena) -> None:
    if arena.wait_for(0.4):
        subprocess.run(["mount", "-o", "remount,size=64m", str(arena.settings.journals)], check=True)
        arena.fault("disk full")


def logs_disk(arena: Arena) -> Callable[[], object]:
    return mount(arena.settings.logs, "4m")


def fill_logs(arena: Arena) -> None:
    """No room for a line from 20 to 60 %; workers end and start meanwhile, and both want to be logged."""
    if not arena.wait_for(0.2):
        return
    ballast = fill(arena.settings.logs)
    arena.fault("disk full")
    while arena.progress < 0.6 and arena.going() and arena.wait(3):
        fill(arena.settings.logs)
        if arena.fleet.hit(signal.SIGTERM, "send", "periodic", "expand"):
            arena.fault("TERM")
    ballast.unlink()


def fill_database_disk(arena: Arena) -> None:
    """Twice while the lists are still being expanded, which needs room, and once later."""
    for progress in (0.05, 0.25, 0.7):
        if not arena.wait_for(progress):
            return
        ballast = fill(arena.disk)
        arena.fault("disk full")
        for _ in range(10):
            arena.wait(1)
            fill(arena.disk)
        ballast.unlink()
        # MariaDB may abort when there is no room; whoever runs it starts it again.
        if arena.mariadb and arena.mariadb.has_ended():
            arena.fault("MariaDB aborted")
            arena.mariadb.start()

"""A process whose supervisord was killed ends by itself, or the next supervisord starts a second set."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from app.config import Settings
from app.events import warn

LOOK_SECONDS = 2.0
#: supervisord puts its own address into the environment of what it starts.
ADDRESS = "SUPERVISOR_SERVER_URL"


def parent_at_start(settings: Settings, environ: Mapping[str, str] = os.environ) -> int:
    """The pid of who started this process, also when that one is dead by now.

    Before it can ask, a process takes half a second to load. So under this home's supervisord its pid
    file counts, which it writes before it starts anything.
    """
    parent = os.getppid()
    if not environ.get(ADDRESS, "").startswith(f"unix://{settings.sockets}/"):
        return parent
    try:
        written = int((settings.run / "supervisord.pid").read_text())
    except (OSError, ValueError):
        return parent
    # A supervisord that could not write its pid, on a full disk, is a parent all the same.
    return parent if _is_supervisord(parent) else written


def watch_parent(parent: int, stop: threading.Event, gone: Callable[[], object]) -> None:
    """Call `gone` once, on a thread of its own, when `parent` is not our parent any more; not after `stop` is set."""

    def watch() -> None:
        while not stop.is_set():
            if os.getppid() != parent:
                gone()
                return
            stop.wait(LOOK_SECONDS)

    threading.Thread(target=watch, name="orphan-guard", daemon=True).start()


def end_with_parent(settings: Settings) -> None:
    """From now on: a SIGTERM to ourselves when our supervisord is gone. For services; a worker has a flag for it.

    Whom a person started goes on when that person logs out.
    """
    if not os.environ.get("SUPERVISOR_ENABLED"):
        return
    parent = parent_at_start(settings)

    def gone() -> None:
        # The signal first: telling it may hang, for our output went to the parent.
        os.kill(os.getpid(), signal.SIGTERM)
        warn("parent process is gone: stopping", parent=parent)

    watch_parent(parent, threading.Event(), gone)


def _is_supervisord(pid: int) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return any(word == b"supervisor.supervisord" or word.endswith(b"supervisord") for word in words[:4])

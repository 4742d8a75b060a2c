"""Tell workers of this home to finish and end; supervisord starts a fresh one for each.

A pid that comes from a caller is believed only after /proc says that it is a supervised worker of
this home, and the signal goes through a handle on the process that was looked at: a pid that is
given to another process in between is never hit.
"""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from pathlib import Path

from app.scaling.processes import PROC, processes_of


def stop_workers(home: Path, pid: int | None = None, queue: str | None = None) -> list[int]:
    """SIGTERM to the workers of the home on this host with this pid or this queue, or to all; their pids."""
    stopping = []
    with ExitStack() as stack:
        handles = {found: _open(stack, found) for found in _workers(home, pid, queue)}
        # The second look proves that the handles are on workers, not on whoever got a pid since.
        for found in _workers(home, pid, queue):
            handle = handles.get(found)
            if handle is None:
                continue
            try:
                signal.pidfd_send_signal(handle, signal.SIGTERM)
                stopping.append(found)
            except ProcessLookupError:
                pass  # it has ended by itself
    return stopping


def _open(stack: ExitStack, pid: int) -> int | None:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    stack.callback(os.close, handle)
    return handle


def _workers(home: Path, pid: int | None, queue: str | None) -> list[int]:
    return [
        process.pid
        for process in processes_of(home)
        if pid in (None, process.pid)
        and (queues := _queues(process.pid)) is not None
        and (queue is None or queue in queues)
    ]


def _queues(pid: int) -> list[str] | None:
    """The queues that a worker was started for; None when the process is no worker."""
    try:
        words = [os.fsdecode(word) for word in (PROC / str(pid) / "cmdline").read_bytes().split(b"\0")]
    except OSError:
        return None
    if not any(word.endswith("bin/worker") for word in words[:3]) or "--queues" not in words[:-1]:
        return None
    return words[words.index("--queues") + 1].split(",")

"""Of those who look at a home, one writes down what it sees: the web service while it runs, else who checks."""

from __future__ import annotations

import fcntl
import os
from typing import IO

from app.config import Settings


def take_watch(settings: Settings) -> IO[str] | None:
    """The right to note alarms of this home, until the file is closed or its process dies; None: another one has it."""
    descriptor = os.open(settings.state / "alarms.lock", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    file = os.fdopen(descriptor, "w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file

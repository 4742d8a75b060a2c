"""A worker that dies at once, again and again, waits longer and longer before it starts, and is reported.

supervisord starts what lived for a second again without a pause. So each program keeps a small file with its
quick deaths. It is a convenience: when it cannot be read or written, the worker starts all the same.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from app.config import Settings
from app.events import warn

#: A life shorter than this, in seconds, that did not end gracefully is a quick death.
QUICK_SECONDS = 10.0
#: Quick deaths in a row that are answered by an immediate start.
FREE = 4
LONGEST_WAIT = 60.0
#: What nobody has started again for this long is no trouble any more: its program was taken away.
FORGOTTEN_SECONDS = 3600.0
KILLED = "killed, or crashed without a word"


@dataclass
class Record:
    """What is known of a program. Instants are seconds since 1970 by this host's clock."""

    program: str = ""
    #: Quick deaths in a row, and when the first of these lives began.
    count: int = 0
    first_at: float = 0.0
    #: The present or last life: its process, when that was born (clock ticks since boot), when it went to work.
    pid: int = 0
    born: str = ""
    started_at: float = 0.0
    #: When it ended, if it could say so.
    ended_at: float = 0.0
    #: Until when the next start waits.
    waiting_until: float = 0.0
    #: Why this life ends, and why the one before did, as far as they could say.
    reason: str = ""
    reason_before: str = ""


@dataclass(frozen=True)
class Trouble:
    """A program that died quickly `count` times in a row.

    `waiting_until`: seconds since 1970, 0 when it does not wait; `reason`: why it ended last.
    """

    program: str
    count: int
    waiting_until: float
    reason: str


@dataclass
class Starts:
    """The record of one program: `begin`, then `wait`, then one of `end` and `say`, or death."""

    path: Path
    program: str
    record: Record = field(default_factory=Record)

    @classmethod
    def of(cls, settings: Settings, program: str) -> Starts:
        return cls(_directory(settings) / f"{quote(program, safe='')}.json", program)

    def begin(self, now: float) -> float:
        """Note a start; how many seconds it has to wait."""
        old = _read(self.path) or Record()
        new = Record(program=self.program, pid=os.getpid(), born=_born(os.getpid()))
        died = old.pid != 0 and not _is_alive(old)
        if died and old.waiting_until > now and old.waiting_until - now <= LONGEST_WAIT:
            # It died while it waited: that says nothing new, and the rest is still to be waited for.
            new.count, new.first_at, new.reason_before = old.count, old.first_at, old.reason_before
            new.waiting_until = old.waiting_until
        elif died and 0 <= (old.ended_at or now) - old.started_at < QUICK_SECONDS:
            new.count = old.count + 1
            new.first_at = old.first_at if old.count else old.started_at
            new.reason_before = old.reason or KILLED
            if new.count > FREE:
                new.waiting_until = now + min(LONGEST_WAIT, 2.0 ** (new.count - FREE - 1))
        self.record = new
        new.started_at = max(now, new.waiting_until)
        self._write()
        return max(0.0, new.waiting_until - now)

    def wait(self, seconds: float, stop: threading.Event) -> None:
        """Wait as long as `begin` said, or until told to stop."""
        record = self.record
        if seconds <= 0:
            return
        warn(
            f"worker ended {record.count} times in {time.time() - record.first_at:.0f} seconds: "
            f"starting after {seconds:.0f} s",
            program=self.program, count=record.count, seconds=round(seconds, 1), reason=record.reason_before,
        )  # fmt: skip
        stop.wait(seconds)
        record.waiting_until, record.started_at = 0.0, time.time()
        self._write()

    def say(self, reason: str) -> None:
        """Note why this life ends, so that the next start can tell."""
        self.record.reason, self.record.ended_at = reason[:500], time.time()
        self._write()

    def end(self) -> None:
        """Note a graceful end: nothing counts any more."""
        _quietly(lambda: self.path.unlink(missing_ok=True))

    def _write(self) -> None:
        new = self.path.with_name(f"{self.path.name}.{os.getpid()}.new")
        try:
            self.path.parent.mkdir(mode=0o700, exist_ok=True)
            new.write_text(json.dumps(asdict(self.record)))
            new.replace(self.path)
        except OSError:
            _quietly(lambda: new.unlink(missing_ok=True))


def restart_trouble(settings: Settings) -> list[Trouble]:
    """The programs that die at once again and again, by name; empty when all is well or nothing can be read.

    One that has lived for a while since is not among them, and neither is one that only supervisord knows.
    """
    now = time.time()
    found: list[Trouble] = []
    try:
        paths = sorted(_directory(settings).glob("*.json"))
    except OSError:
        return found
    for path in paths:
        record = _read(path)
        if record is None or record.count < FREE or now - record.started_at > FORGOTTEN_SECONDS:
            continue
        waits, alive = record.waiting_until > now, _is_alive(record)
        if waits or not alive or now - record.started_at < QUICK_SECONDS:
            reason = record.reason_before if waits or alive else record.reason or KILLED
            found.append(Trouble(record.program, record.count, record.waiting_until if waits else 0.0, reason))
    return found


def _directory(settings: Settings) -> Path:
    return settings.state / "starts"


def _read(path: Path) -> Record | None:
    try:
        said: dict[str, Any] = json.loads(path.read_text())
        record = Record(**said)
        numbers = (record.count, record.first_at, record.pid, record.started_at, record.ended_at, record.waiting_until)
        texts = (record.program, record.born, record.reason, record.reason_before)
        return record if all(type(n) in (int, float) for n in numbers) and all(type(t) is str for t in texts) else None
    except (OSError, ValueError, TypeError):
        return None


def _born(pid: int) -> str:
    """When a process was born, in clock ticks since boot, as text; empty when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _is_alive(record: Record) -> bool:
    return record.born != "" and _born(int(record.pid)) == record.born


def _quietly(do: Callable[[], object]) -> None:
    try:
        do()
    except OSError:
        pass

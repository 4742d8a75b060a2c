"""Replace running processes one after another: a deploy with nothing stopped.

A worker that gets SIGTERM finishes its task and exits; supervisord starts a fresh one, with the
present code. Only when that one works does the next get its signal; and a worker that sends is not
stopped before another of its group sends too, so that the group never stands still.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from app.config import Settings
from app.errors import NotFound, Refused
from app.scaling.groups import MARGIN, STEP, Say, connected, groups_named
from app.scaling.supervisord import Configured, Process, Supervisord
from app.scaling.table import FOUNDATION

#: A process that does not run so many seconds after the end of its predecessor cannot start.
UP_SECONDS = 20.0
#: A fresh worker that has no heartbeat after so many seconds cannot work.
WORK_SECONDS = 60.0
#: How long another worker of the group may take to send before one that does is stopped all the same.
OTHERS_SECONDS = 15.0
#: What is waited for is said this often.
SAY_SECONDS = 5.0
LOOK_SECONDS = 0.5

#: The workers heard of: pid → the campaign it works on now, or None. None instead: nobody can tell.
Beats = Callable[[], Mapping[int, int | None] | None]


@dataclass(frozen=True)
class Restarted:
    """How many processes were replaced, and which of the rest are meant to run and do not."""

    count: int
    down: tuple[Process, ...]


def restart(settings: Settings, name: str | None, say: Say, beats: Beats = lambda: None) -> Restarted:
    """Replace the running processes of a name, or everything above the foundations.

    Raises Refused when one does not come back (the rest goes on with its old code), and while another
    restart of this home is under way.
    """
    with _alone(settings), connected(settings) as client:
        configured = {(c.group, c.name): c for c in client.configured() if c.in_use}
        if name is None:
            groups = {c.group for c in configured.values() if c.priority >= FOUNDATION}
        else:
            groups = set(groups_named(settings, client, name))
        found = [p for p in client.processes() if p.group in groups and (p.group, p.name) in configured]
        found.sort(key=lambda p: (configured[p.group, p.name].priority, p.group, p.name))
        for process in found:
            if process.state != "RUNNING":
                say(f"{process.name} is not replaced, it is {process.state}: {process.detail}")
        running = [p for p in found if p.state == "RUNNING"]
        turn, count = _Turn(client, say, beats), 0
        for number, process in enumerate(running, 1):
            seconds = turn.replace(process, configured[process.group, process.name])
            if seconds is not None:
                count += 1
                say(f"{number}/{len(running)} {process.name} restarted in {seconds:.1f} s")
        return Restarted(count, tuple(_down(client, groups)))


def _down(client: Supervisord, groups: set[str]) -> list[Process]:
    """Those meant to run that do not. One that dies at once is STARTING for a moment, again and again."""
    deadline = time.monotonic() + UP_SECONDS
    while True:
        here = [p for p in client.processes() if p.group in groups]
        if all(p.state != "STARTING" for p in here) or time.monotonic() > deadline:
            return [p for p in here if p.state not in ("RUNNING", "STOPPED", "STOPPING")]
        time.sleep(STEP)


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Two at once would stop two workers of a group at a time."""
    with (settings.run / "restart.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise Refused(
                f"another restart (pid {file.read().strip() or '?'}) is replacing processes one after another; "
                "wait for its end, then restart again if need be"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


class _Turn:
    """Replaces one process at a time."""

    def __init__(self, client: Supervisord, say: Say, beats: Beats) -> None:
        self._client, self._say, self._beats = client, say, beats

    def replace(self, listed: Process, configured: Configured) -> float | None:
        """Seconds it took; None when the process was stopped by somebody else meanwhile."""
        beats = self._beats() or {}
        process = self._present(listed)
        if process and process.state == "RUNNING" and beats.get(process.pid) is not None:
            self._await_another(process)
            process = self._present(listed)
        seconds = self._exchange(process, configured, beats) if process and process.state == "RUNNING" else None
        if seconds is None:
            now = self._present(listed)
            state = f"{now.state}: {now.detail}" if now else "not configured any more"
            self._say(f"{listed.name} was not replaced; it is {state}")
        return seconds

    def _exchange(self, process: Process, configured: Configured, beats: Mapping[int, int | None]) -> float | None:
        started = time.monotonic()
        try:
            self._client.signal(process, "TERM")
        except (Refused, NotFound):
            return None
        fresh = self._await_start(process, configured.stop_wait + MARGIN, beats.get(process.pid))
        if fresh is None:
            return None
        if process.pid in beats:
            self._await_work(fresh)
        return time.monotonic() - started

    def _await_start(self, process: Process, patience: float, campaign: int | None) -> Process | None:
        """The successor, once it runs; None when the group was stopped or removed meanwhile."""
        task = f"{process.name} (campaign {campaign})" if campaign is not None else process.name
        waiting, ended = _Waiting(self._say), None
        while True:
            now = self._present(process)
            if now is None or now.state in ("STOPPED", "STOPPING"):
                return None
            if now.state == "RUNNING" and now.pid != process.pid:
                return now
            if now.state != "RUNNING":
                ended = ended or _Waiting(self._say)
                if ended.seconds > UP_SECONDS:
                    raise Refused(
                        f"{process.name} does not start any more: it is {now.state} ({now.detail}); the rest was left "
                        f"as it is; see bin/supervisor-manager logs {process.name} --errors"
                    )
            elif waiting.seconds > patience:
                raise Refused(
                    f"{process.name} (pid {process.pid}) did not come back within {patience:.0f} s; the rest was left "
                    "as it is; see bin/supervisor-manager status and logs"
                )
            (ended or waiting).tell(f"waiting for {process.name} to start" if ended else f"waiting for {task}")
            time.sleep(STEP)

    def _await_work(self, fresh: Process) -> None:
        """RUNNING says only that it lives; a heartbeat says that it has loaded its code and fetches work."""
        waiting = _Waiting(self._say)
        while (beats := self._beats()) is not None and fresh.pid not in beats:
            now = self._present(fresh)
            if now is None or now.state in ("STOPPED", "STOPPING"):
                return
            if now.state == "RUNNING" and now.pid != fresh.pid:
                fresh = now
            if waiting.seconds > WORK_SECONDS:
                raise Refused(
                    f"{fresh.name} (pid {fresh.pid}) is {now.state} and takes no work after {WORK_SECONDS:.0f} s; the "
                    f"rest was left as it is; see bin/supervisor-manager logs {fresh.name} --errors"
                )
            waiting.tell(f"waiting for {fresh.name} to take up work")
            time.sleep(LOOK_SECONDS)

    def _await_another(self, process: Process) -> None:
        waiting = _Waiting(self._say)
        while waiting.seconds < OTHERS_SECONDS:
            others = [
                p.pid
                for p in self._client.processes()
                if p.group == process.group and p.name != process.name and p.state == "RUNNING"
            ]
            if not others:
                self._say(f"{process.name} is the only worker of {process.group}: nothing else sends for it meanwhile")
                return
            beats = self._beats() or {}
            if beats.get(process.pid) is None or any(beats.get(pid) is not None for pid in others):
                return
            waiting.tell(f"waiting for another worker of {process.group} to send")
            time.sleep(LOOK_SECONDS)

    def _present(self, process: Process) -> Process | None:
        same = (process.group, process.name)
        return next((p for p in self._client.processes() if (p.group, p.name) == same), None)


class _Waiting:
    """How long something has been waited for, told every few seconds."""

    def __init__(self, say: Say) -> None:
        self._say, self._began, self._told = say, time.monotonic(), 0.0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def tell(self, what: str) -> None:
        if self.seconds - self._told >= SAY_SECONDS:
            self._told = self.seconds
            self._say(f"{what}: {self.seconds:.0f} s")

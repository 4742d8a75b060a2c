"""The stack as it is shipped, under a real supervisord, in the place of a fleet."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from app.config import ROOT
from app.scaling.processes import Found, processes_of
from tests.faults.fleet import Seat
from tests.ports import free_port

#: Threads of the send workers in the shipped table.
CONNECTIONS = 8
WORKERS = ("periodic", "expand", "send")
#: How long orphans may take to notice and to finish what they have in hand, in seconds.
ORPHANS_END = 60.0


class StackFleet:
    """One home run by bin/supervisor-manager. No worker is killed here, so none may leave a mail unknown."""

    def __init__(self, home: Path, environ: Mapping[str, str]) -> None:
        self._home = home
        self._environ = {**environ, "HTTP_BIND": f"127.0.0.1:{free_port()}"}
        self.threads_killed = self.killed = self.restarts = 0

    def __enter__(self) -> StackFleet:
        self.manage("start")
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(RuntimeError, subprocess.TimeoutExpired):
            self.manage("stop", "--wait", "30")
        for found in processes_of(self._home):
            with suppress(ProcessLookupError):
                os.kill(found.pid, signal.SIGKILL)

    def manage(self, *arguments: str) -> None:
        """bin/supervisor-manager; raises RuntimeError with what it said when it fails."""
        done = subprocess.run(
            [str(ROOT / "bin/supervisor-manager"), *arguments],
            env=self._environ, cwd=ROOT, capture_output=True, text=True, timeout=180,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"supervisor-manager {arguments[0]}: {done.stdout}{done.stderr}")

    def replace_supervisord(self, patience: float) -> list[str]:
        """Kill supervisord (-9), and start it again when its workers have ended or `patience` seconds are over.

        Returns what was not as it must be.
        """
        old = processes_of(self._home)
        workers = {found.pid for found in old if found.group in WORKERS}
        for found in old:
            if found.is_supervisord:
                os.kill(found.pid, signal.SIGKILL)
        self.killed += 1
        deadline = time.monotonic() + patience
        while (left := workers & self._pids()) and time.monotonic() < deadline:
            time.sleep(0.1)
        late = bool(left) and patience >= ORPHANS_END
        complaints = [f"{len(left)} orphans still run after {patience:.0f} s"] if late else []
        try:
            self.manage("start")
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            return [*complaints, str(error)]
        if second := workers & self._pids():
            complaints.append(f"{len(second)} workers of the old supervisord run beside the new ones")
        self.restarts += 1
        return complaints

    def hit(self, _number: signal.Signals, *_queues: str) -> Seat | None:
        """Workers are supervisord's here."""
        return None

    def stop_for(self, _seconds: float, *_queues: str) -> Seat | None:
        return None

    def wake(self) -> None:
        """Nobody was stopped."""

    def _pids(self) -> set[int]:
        found: list[Found] = processes_of(self._home)
        return {process.pid for process in found}

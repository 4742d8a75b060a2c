"""The workers of a fault run: started as supervisord starts them, and started again when they end."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from app.config import ROOT

MODULES = "tests.faults.inject,actors.campaigns,actors.periodic"
#: What stands in a seat's `queues` when it is no worker.
SCHEDULER = "scheduler"


@dataclass
class Seat:
    """A program that is to run, and the process that runs it now."""

    name: str
    queues: str
    threads: int
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    stopped_until: float = 0.0

    @property
    def command(self) -> list[str]:
        if self.queues == SCHEDULER:
            return [str(ROOT / "bin/scheduler")]
        return [
            str(ROOT / "bin/worker"), "--queues", self.queues, "--name", self.name,
            "--threads", str(self.threads), "--sleep", "0.5", "--modules", MODULES,
        ]  # fmt: skip


class Fleet:
    """`threads_killed`: threads of the workers that ended by SIGKILL, whoever sent it: each had a mail at most."""

    def __init__(self, logs: Path, environ: Mapping[str, str], seats: list[Seat]) -> None:
        self.seats = seats
        self._logs, self._environ = logs, dict(environ)
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self.threads_killed = self.killed = self.ended = self.restarts = 0
        self.last_death = 0.0
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Fleet:
        for seat in self.seats:
            self._start(seat)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join()
        for seat in self.seats:
            self._tell(seat, signal.SIGCONT)
            self._tell(seat, signal.SIGTERM)
        for seat in self.seats:
            assert seat.process
            try:
                seat.process.wait(15)
            except subprocess.TimeoutExpired:
                seat.process.kill()
                seat.process.wait()

    def hit(self, number: signal.Signals, *queues: str) -> Seat | None:
        """Send a signal to a random worker of these queues; None when none of them runs now."""
        with self._lock:
            running = [s for s in self.seats if s.queues in queues and s.process and s.process.poll() is None]
            running = [s for s in running if time.monotonic() - s.started > 0.3 and not s.stopped_until]
            if not running:
                return None
            seat = random.choice(running)
            self._tell(seat, number)
        return seat

    def stop_for(self, seconds: float, *queues: str) -> Seat | None:
        """Stop a random worker (SIGSTOP) and let it go on after a while."""
        seat = self.hit(signal.SIGSTOP, *queues)
        if seat:
            seat.stopped_until = time.monotonic() + seconds
        return seat

    def wake(self) -> None:
        """Let all that are stopped go on."""
        with self._lock:
            for seat in self.seats:
                self._tell(seat, signal.SIGCONT)

    def _start(self, seat: Seat) -> None:
        with (self._logs / f"{seat.name}.err").open("ab") as log:
            seat.process = subprocess.Popen(seat.command, stdout=log, stderr=log, env=self._environ, cwd=ROOT)
        seat.started, seat.stopped_until = time.monotonic(), 0.0

    def _watch(self) -> None:
        while not self._closing.wait(0.05):
            with self._lock:
                for seat in self.seats:
                    self._look_after(seat)

    def _look_after(self, seat: Seat) -> None:
        assert seat.process
        code, now = seat.process.poll(), time.monotonic()
        if code is None:
            if seat.stopped_until and now > seat.stopped_until:
                seat.stopped_until = 0.0
                self._tell(seat, signal.SIGCONT)
            elif not seat.stopped_until and _is_stopped(seat.process.pid):
                # It stopped itself in a gap: four leases later it goes on.
                seat.stopped_until = now + 20
            return
        if now - seat.started < 1:
            return  # supervisord too waits before it tries again what ended at once
        self.restarts += 1
        self.last_death = now
        if code == -signal.SIGKILL:
            self.killed += 1
            self.threads_killed += seat.threads if seat.queues == "send" else 0
        else:
            self.ended += 1
        self._start(seat)

    @staticmethod
    def _tell(seat: Seat, number: signal.Signals) -> None:
        if seat.process and seat.process.poll() is None:
            os.kill(seat.process.pid, number)


def _is_stopped(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False

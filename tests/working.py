"""What the worker tests share: a Redis that may die, a worker in this process, a worker of its own process."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
from dramatiq.brokers.redis import RedisBroker

from app.config import ROOT, Settings
from app.errors import Unavailable
from app.workers.loop import WorkerLoop
from tests.services import need


def eventually(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
    """Wait until the condition holds; fails with `what` when it does not in time.

    Who does not answer yet (OSError, Unavailable) is asked again. The last look is after the deadline: this
    process may have stood still itself.
    """
    deadline = time.monotonic() + seconds
    while True:
        late, trouble = time.monotonic() > deadline, ""
        try:
            if condition():
                return
        except (OSError, Unavailable) as error:
            trouble = f" ({type(error).__name__}: {error})"
        assert not late, f"not within {seconds} s: {what}{trouble}"
        time.sleep(0.02)


class MortalRedis:
    """A Redis that may be stopped, killed and started again on the same socket; what it holds survives."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.socket = directory / "redis.sock"
        self.url = f"unix://{self.socket}"
        self.client = redis.Redis(unix_socket_path=str(self.socket))
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        durable = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")
        self._process = subprocess.Popen(
            [
                need("redis-server"), "--port", "0", "--unixsocket", str(self.socket), "--dir", str(self._directory),
                *durable,
            ],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        eventually(self._answers, "Redis answers")

    def __enter__(self) -> MortalRedis:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.client.close()

    def stop(self) -> None:
        """As a restart by the administrator does it."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """It takes connections and answers nothing, until it is thawed."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process
        self._process.send_signal(signal.SIGCONT)

    def _end(self, number: signal.Signals) -> None:
        if self._process:
            self._process.send_signal(number)
            self._process.wait(20)
            self._process = None

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False


class LossyLine:
    """A line to Redis that loses one reply: the request arrives and is carried out, the line drops."""

    def __init__(self, target: Path, listen: Path) -> None:
        self.url = f"unix://{listen}"
        self._target = target
        #: The next request that contains this is answered with silence and a closed line.
        self.lose: bytes | None = None
        self.lost = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(listen))
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(str(self._target))
        except OSError:
            client.close()
            return
        losing = threading.Event()

        def back() -> None:
            while data := _receive(server):
                if losing.is_set():
                    self.lost.set()
                    break
                client.sendall(data)
            _hang_up(client)

        threading.Thread(target=back, daemon=True).start()
        while data := _receive(client):
            if self.lose and self.lose in data:
                self.lose = None
                losing.set()
            server.sendall(data)
        _hang_up(server)


def _receive(connected: socket.socket) -> bytes:
    try:
        return connected.recv(65536)
    except OSError:
        return b""


def _hang_up(connected: socket.socket) -> None:
    try:
        connected.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


class Running:
    """A worker loop in a thread of this process."""

    def __init__(self, broker: RedisBroker, queues: Sequence[str], threads: int, poll: float) -> None:
        self.stop = threading.Event()
        self.loop = WorkerLoop(broker, queues, threads=threads, poll=poll, stop=self.stop)
        self._thread = threading.Thread(target=self.loop.run)
        self._thread.start()

    def end(self, seconds: float = 60) -> float:
        """Tell it to stop and wait for it; how long that took."""
        began = time.monotonic()
        self.stop.set()
        self._thread.join(seconds)
        assert not self._thread.is_alive(), "the loop has not ended"
        return time.monotonic() - began

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()


@contextmanager
def running(broker: RedisBroker, *queues: str, threads: int = 1, poll: float = 0.1) -> Iterator[Running]:
    """A worker loop that is told to stop at the end, whatever happened."""
    worker = Running(broker, queues, threads, poll)
    try:
        yield worker
    finally:
        worker.end()


class WorkerProcess:
    """`bin/worker` as supervisord runs it, its log lines at hand."""

    def __init__(self, settings: Settings, *arguments: str, name: str = "test_00", **environ: str) -> None:
        self._log = settings.logs / f"{name}.{time.monotonic_ns()}.err"
        environment = {k: v for k, v in os.environ.items() if k not in ("MAILCREW_HOME", "DATABASE_URL", "REDIS_URL")}
        environment |= {
            "MAILCREW_HOME": str(settings.home),
            "DATABASE_URL": settings.database_url,
            "REDIS_URL": settings.redis_url,
            **environ,
        }
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [str(ROOT / "bin" / "worker"), "--queues", "expand,send,periodic", "--name", name, *arguments],
                env=environment, stdout=log, stderr=log,
            )  # fmt: skip
        self.pid = self._process.pid

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(20)

    def tell(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(20)

    def wait(self, seconds: float = 60) -> int:
        """The exit code; fails with the log when the process does not end in time."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the worker has not ended within {seconds} s:\n{self.text()}") from None

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def text(self) -> str:
        return self._log.read_text()

    def lines(self, event: str) -> list[dict[str, Any]]:
        """The log lines of an event."""
        found = []
        for line in self.text().splitlines():
            try:
                fields = json.loads(line)
            except ValueError:
                continue
            if fields.get("event") == event:
                found.append(fields)
        return found

    def wait_for(self, event: str, seconds: float = 60) -> dict[str, Any]:
        """The first log line of an event, waited for."""
        try:
            eventually(lambda: self.lines(event), event, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.text()}") from None
        return self.lines(event)[0]

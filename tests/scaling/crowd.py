"""A home with real workers under a real supervisord, a manager beside it, and load that ends when it is told to."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis
from dramatiq.brokers.redis import RedisBroker

from app.config import ROOT, Settings, read_settings
from app.db import Db, connect, migrate
from app.queues.broker import make_broker
from app.queues.tickets import enqueue
from app.queues.workers import KEY
from app.scaling.groups import connected
from app.scaling.supervisord import ALIVE, WANTED
from app.scaling.table import SLOT_NAME
from tests.deployed import kill_all
from tests.scaling.load_actors import DONE, GATE, TAKEN
from tests.services import need
from tests.supervised import REDIS, Stack
from tests.working import eventually

WORKER = f"""
import sys
sys.path[0] = {str(ROOT)!r}
from app.workers.main import main
sys.exit(main())
"""

MANAGER = (
    "import sys; from pathlib import Path; from app.cli.queue_manager import main;"
    "sys.exit(main(sys.argv[2:], root=Path(sys.argv[1])))"
)

#: Killed by itself after a file was written and before supervisord is told.
KILLED_BETWEEN = (
    "import os, signal; from app.scaling.supervisord import Supervisord;"
    "Supervisord.reread = lambda self: os.kill(os.getpid(), signal.SIGKILL);" + MANAGER
)

#: On a machine that has what the file `meminfo` in the root says.
LITTLE_MEMORY = (
    "import sys; from pathlib import Path; from app.scaling import ceilings;"
    "ceilings.MEMINFO, ceilings.CGROUP = Path(sys.argv[1], 'meminfo'), Path('/nowhere');" + MANAGER
)


def entry(name: str, processes: int, most: int) -> str:
    """A queue of the test's actors: ten waiting tasks for each worker."""
    return (
        f'\n[[queue]]\nname = "{name}"\nprocesses = {processes}\nmax = {most}\ntimeout = 60\nmemory = 64\npoll = 0.05\n'
        f'tasks_per_worker = 10\nmodules = ["tests.scaling.load_actors"]\n'
    )


class Crowd:
    """`pids` are the workers at work, by process name; `sleeping` ones only wait for their SIGTERM."""

    def __init__(self, directory: Path, *queues: str, sleeping: bool = False) -> None:
        (directory / "root").mkdir()
        self.stack = Stack(directory / "root", directory / "home", REDIS + "".join(queues), startsecs=0)
        if not sleeping:
            (self.stack.root / "bin" / "worker").write_text(WORKER)
        self._managers: list[subprocess.Popen[str]] = []

    def start(self) -> None:
        self.stack.run("start")
        self.broker: RedisBroker = make_broker(self.settings.redis_url)
        self.db: Db = connect(self.settings.database_url)
        migrate(self.db)

    @property
    def settings(self) -> Settings:
        return read_settings(self.stack.environ, root=self.stack.root)

    @property
    def redis(self) -> redis.Redis:
        return self.broker.client

    @property
    def redis_answers(self) -> bool:
        """False also while it reads what it had kept."""
        try:
            return bool(self.redis.ping())
        except redis.RedisError:
            return False

    def end(self) -> None:
        self._end_managers()
        kill_all(self.stack.found())

    def clear(self) -> None:
        """No manager, no slot, no task, no memory of what was: as it was started, with the same base workers."""
        self._end_managers()
        with connected(self.settings) as client:
            slots = {p.group for p in client.processes() if SLOT_NAME.fullmatch(p.group)}
            for group in slots:
                client.stop_group(group)
            self.open_gate(1_000_000)
            eventually(lambda: not any(p.group in slots and p.state in ALIVE for p in client.processes()), "they go")
            for group in slots:
                client.remove(group)
        for path in (*self.settings.conf_d.glob("*-burst-*"), *self.settings.conf_d.glob("campaign_*")):
            path.unlink()
        (self.settings.state / "queue-manager.json").unlink(missing_ok=True)
        keys = [key for key in self.redis.keys("dramatiq:*") if b"__" not in key]
        self.redis.delete(DONE, TAKEN, GATE, KEY, *keys)
        self.db.run("DELETE FROM scaling_decisions")

    def _end_managers(self) -> None:
        for manager in self._managers:
            if manager.poll() is None:
                manager.kill()
            manager.communicate()

    def begin_manager(self, *arguments: str, code: str = MANAGER) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", code, str(self.stack.root), *arguments]
        process = subprocess.Popen(
            command, env=self.stack.environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._managers.append(process)
        return process

    def manage(self, *arguments: str, code: int = 0, script: str = MANAGER) -> str:
        """A manager that ends by itself: what it said."""
        process = self.begin_manager(*arguments, code=script)
        out, err = process.communicate(timeout=60)
        assert process.returncode == code, f"exit {process.returncode}: {out}{err}"
        return out + err

    def decisions(self, *arguments: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.manage(*arguments, "--json"))
        return found

    def put(self, queue: str, *numbers: int) -> None:
        """Tasks of these numbers, each of which ends once the gate is above it."""
        for number in numbers:
            enqueue(self.broker, queue, queue, (number,))

    def open_gate(self, number: int) -> None:
        self.redis.set(GATE, number)

    def pids(self, queue: str) -> dict[str, int]:
        """The workers of a queue that are at work, without those that are leaving."""
        return {name: pid for name, (state, pid) in self.states(queue).items() if state in WANTED}

    def states(self, queue: str) -> dict[str, tuple[str, int]]:
        with connected(self.settings) as client:
            mine = [p for p in client.processes() if p.group == queue or p.group.startswith(f"{queue}-burst-")]
            return {p.name: (p.state, p.pid) for p in mine}

    def taken(self) -> dict[int, int]:
        """Which worker has had which task."""
        found: Any = self.redis.hgetall(TAKEN)
        return {int(number): int(pid) for number, pid in found.items()}

    def done(self) -> dict[int, int]:
        """How many times each task has ended."""
        found: Any = self.redis.hgetall(DONE)
        return {int(number): int(times) for number, times in found.items()}


class Shared:
    """One stack for tests that leave it as they found it; a test that failed does not hand it on."""

    def __init__(self, directory: Path, *queues: str, sleeping: bool = False) -> None:
        self._directory, self._queues, self._sleeping = directory, queues, sleeping
        self._crowd: Crowd | None = None

    def lend(self) -> Iterator[Crowd]:
        need("redis-server")
        if self._crowd is None:
            directory = Path(tempfile.mkdtemp(dir=self._directory))
            self._crowd = Crowd(directory, *self._queues, sleeping=self._sleeping)
            self._crowd.start()
        before = set(self._crowd.stack.pids())
        yield self._crowd
        try:
            self._crowd.clear()
            kept = set(self._crowd.stack.pids()) == before
        except Exception:
            self.end()
            raise
        if not kept:
            self.end()

    def end(self) -> None:
        if self._crowd:
            self._crowd.end()
            self._crowd = None

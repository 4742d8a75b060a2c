"""The whole stack from a copy of the project: real workers under a real supervisord, and files that may change."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from app.config import ROOT, Settings, read_settings
from app.scaling.processes import Found, processes_of
from app.scaling.render import socket_path
from app.scaling.supervisord import Supervisord
from tests.ports import free_port
from tests.smtp_faults import Event, Fault, Mail
from tests.smtp_server import SmtpServer

TABLE = """
[[service]]
name = "redis"
command = "{redis_server} {home}/redis.conf"
priority = 10
when = "embedded_redis"

[[queue]]
name = "periodic"
priority = 100
threads = 1
poll = 0.5

[[queue]]
name = "expand"
priority = 150
threads = 1
poll = 0.5

[[queue]]
name = "send"
processes = 2
priority = 200
threads = 4
poll = 0.5

[[service]]
name = "scheduler"
command = "{python} {root}/bin/scheduler"
priority = 900
"""

EXTRA = "9001_opened"
MIGRATION = '''"""What a new version may bring: a column and an index that older code does not look at."""


def up(migrator, db):
    db.execute_sql("ALTER TABLE recipients ADD COLUMN opened_at BIGINT NULL")
    db.execute_sql("CREATE INDEX recipients_opened ON recipients (campaign_id, opened_at)")
'''


class SlowServer(SmtpServer):
    """Takes `pace` seconds for each mail until `calm` is set; knows when each was accepted.

    `holding`: it has had one.
    """

    def __init__(self, pace: float) -> None:
        super().__init__(plan=self._slow)
        self.calm, self.holding = threading.Event(), threading.Event()
        self.accepted_at: list[float] = []
        self._pace = pace

    def __enter__(self) -> SlowServer:
        super().__enter__()
        return self

    def accept(self, mail: Mail) -> None:
        self.accepted_at.append(time.monotonic())
        super().accept(mail)

    def _slow(self, event: Event) -> Fault | None:
        if event.verb == "DOT":
            self.holding.set()
            self.calm.wait(self._pace)
        return None


class Installation:
    """A copy of the project and a home; `run` is one of its commands."""

    def __init__(self, directory: Path, database_url: str, table: str = TABLE) -> None:
        self.root, self.home = directory / "root", directory / "home"
        for name in ("app", "actors", "supervisor", "bin"):
            shutil.copytree(ROOT / name, self.root / name, ignore=shutil.ignore_patterns("__pycache__"))
        (self.root / ".venv").symlink_to(ROOT / ".venv")
        (self.root / "supervisor" / "queues.toml").write_text(table)
        unset = {"REDIS_URL", "DATABASE_URL", "MAILCREW_HOME", "PYTHONPATH"}
        self.environ = {key: value for key, value in os.environ.items() if key not in unset}
        self.environ |= {
            "MAILCREW_HOME": str(self.home), "DATABASE_URL": database_url, "SEND_BATCH_SIZE": "50",
            "HTTP_BIND": f"127.0.0.1:{free_port()}",
        }  # fmt: skip

    @property
    def settings(self) -> Settings:
        return read_settings(self.environ, root=self.root)

    def pull(self) -> None:
        """A new version arrives, as by `git pull`; nothing that runs notices."""
        (self.root / "app" / "migrations" / f"{EXTRA}.py").write_text(MIGRATION)

    def begin(self, command: str, *arguments: str) -> subprocess.Popen[str]:
        words = [str(self.root / "bin" / command), *arguments]
        return subprocess.Popen(words, env=self.environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def run(self, command: str, *arguments: str, code: int = 0) -> str:
        """What the command printed; its exit code must be `code`."""
        process = self.begin(command, *arguments)
        said, _ = process.communicate(timeout=110)
        assert process.returncode == code, f"exit {process.returncode}: {said}"
        return said

    def pids(self) -> dict[str, int]:
        """The pid of every running process by its name."""
        client = Supervisord(socket_path(self.settings))
        found = {p.name: p.pid for p in client.processes() if p.state == "RUNNING"}
        client.close()
        return found

    def found(self) -> list[Found]:
        return processes_of(self.home)

    def log(self, process: str) -> str:
        """What a process has written, both streams."""
        return "".join(path.read_text() for path in sorted((self.home / "logs").glob(f"{process}.*")))

    def end(self) -> None:
        kill_all(self.found())


def kill_all(processes: Iterable[Found]) -> None:
    """Whatever of them still runs."""
    for process in processes:
        with suppress(ProcessLookupError):  # it went with another, or by itself
            os.kill(process.pid, signal.SIGKILL)


@contextmanager
def installed(directory: Path, database_url: str, table: str = TABLE) -> Iterator[Installation]:
    """An installation of which nothing is left running."""
    made = Installation(directory, database_url, table)
    try:
        yield made
    finally:
        made.end()

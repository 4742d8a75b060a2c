"""A home of its own with a table of its own, run by this project's supervisord, workers and commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app.config import ROOT, Settings, make_home, read_settings
from app.scaling.groups import connected
from app.scaling.processes import processes_of
from app.scaling.supervisord import Process
from tests.deployed import kill_all

SECONDS = 60.0


class HomeStack:
    """`run` is any command of `bin/` in this home; `environ` are its settings."""

    def __init__(self, home: Path, table: str, **environ: str) -> None:
        self.home = home
        home.mkdir(parents=True)
        file = home / "queues.toml"
        file.write_text(table)
        unset = {"REDIS_URL", "DATABASE_URL", "MAILCREW_HOME", "QUEUES_FILE"}
        self.environ = {name: value for name, value in os.environ.items() if name not in unset}
        self.environ |= {"MAILCREW_HOME": str(home), "QUEUES_FILE": str(file), **environ}
        make_home(self.settings)

    @property
    def settings(self) -> Settings:
        return read_settings(self.environ)

    def run(self, command: str, *arguments: str, code: int = 0) -> str:
        """The command's stdout; its exit code must be `code`, and its stderr is shown when it is not."""
        done = subprocess.run(
            [str(ROOT / "bin" / command), *arguments], env=self.environ, text=True, capture_output=True, timeout=180
        )
        assert done.returncode == code, f"exit {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout if code == 0 else done.stdout + done.stderr

    def json(self, command: str, *arguments: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run(command, *arguments, "--json"))
        return found

    def supervisorctl(self, *words: str) -> None:
        """Past our own commands, as somebody does who knows supervisord."""
        config = str(self.home / "supervisord.conf")
        subprocess.run([sys.executable, "-m", "supervisor.supervisorctl", "-c", config, *words], env=self.environ)

    def processes(self) -> list[Process]:
        with connected(self.settings) as client:
            return client.processes()

    def pids(self, start: str = "") -> dict[str, int]:
        """The pid of every running process whose group begins so, by its group."""
        return {p.group: p.pid for p in self.processes() if p.state == "RUNNING" and p.group.startswith(start)}

    def pgrep(self, pattern: str) -> list[int]:
        """The pids that `pgrep -f` finds, as an operator types it; without those of homes of other tests."""
        done = subprocess.run(["pgrep", "-f", "--", pattern], text=True, capture_output=True)
        ours = {process.pid for process in processes_of(self.home)}
        return [pid for pid in map(int, done.stdout.split()) if pid in ours]

    def end(self) -> None:
        kill_all(processes_of(self.home))


@contextmanager
def home_stack(directory: Path, table: str, **environ: str) -> Iterator[HomeStack]:
    """A stack that is gone at the end, whatever happened; nothing of it runs yet."""
    stack = HomeStack(Path(tempfile.mkdtemp(dir=directory)) / "home", table, **environ)
    try:
        yield stack
    finally:
        stack.end()

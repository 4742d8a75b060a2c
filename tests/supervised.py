"""A project root with sleepers for workers, and a home of its own that a real supervisord runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from app.config import ROOT, read_settings
from app.scaling.processes import Found, processes_of
from app.scaling.render import socket_path
from app.scaling.supervisord import Supervisord

# Ends on SIGTERM; a queue called `stubborn` does not, and one called `broken` never comes up.
SLEEPER = """
import signal, sys, time
name = sys.argv[sys.argv.index("--name") + 1] if "--name" in sys.argv else "service"
if name.startswith("broken"):
    sys.exit("broken: no such wheel")
signal.signal(signal.SIGTERM, signal.SIG_IGN if name.startswith("stubborn") else lambda *_: sys.exit(0))
print(name, "up", flush=True)
while True:
    time.sleep(60)
"""

MANAGER = (
    "import sys; from pathlib import Path; from app.cli.supervisor import main;"
    "sys.exit(main(sys.argv[2:], root=Path(sys.argv[1])))"
)

REDIS = """
[[service]]
name = "redis"
command = "{redis_server} {home}/redis.conf"
priority = 10
when = "embedded_redis"
"""


class Stack:
    """One home with its own table; `run` is bin/supervisor-manager on it."""

    def __init__(self, root: Path, home: Path, table: str, startsecs: int) -> None:
        self.root, self.home = root, home
        shutil.copytree(ROOT / "supervisor", root / "supervisor")
        # A sleeper that lives a moment lives for ever; without the second's wait tests are twice as fast. Of one that
        # ends at once a busy machine may take longer than that second to find out.
        template = root / "supervisor" / "program.conf.template"
        template.write_text(template.read_text().replace("startsecs=1", f"startsecs={startsecs}"))
        (root / "bin").mkdir()
        (root / "bin" / "worker").write_text(SLEEPER)
        self.table = table
        unset = {"REDIS_URL", "DATABASE_URL", "MAILCREW_HOME"}
        self.environ = {k: v for k, v in os.environ.items() if k not in unset}
        self.environ |= {"MAILCREW_HOME": str(home), "PYTHONPATH": str(ROOT)}

    @property
    def table(self) -> str:
        return self._path.read_text()

    @table.setter
    def table(self, text: str) -> None:
        self._path.write_text(text)

    @property
    def _path(self) -> Path:
        return self.root / "supervisor" / "queues.toml"

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", MANAGER, str(self.root), *arguments]
        return subprocess.Popen(command, env=self.environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def run(self, *arguments: str, code: int = 0) -> str:
        """The command's stdout and stderr together; its exit code must be `code`."""
        process = self.begin(*arguments)
        out, err = process.communicate(timeout=60)
        assert process.returncode == code, f"exit {process.returncode}: {out}{err}"
        return out + err

    def status(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.run("status", "--json"))
        return document

    def pids(self) -> dict[str, int]:
        """The pid of every running process by its name."""
        client = Supervisord(socket_path(read_settings(self.environ)))
        found = {p.name: p.pid for p in client.processes() if p.state == "RUNNING"}
        client.close()
        return found

    def found(self) -> list[Found]:
        return processes_of(self.home)

    def supervisorctl(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "supervisor.supervisorctl", "-c", str(self.home / "supervisord.conf")]
        return subprocess.run([*command, *arguments], env=self.environ, text=True, capture_output=True).stdout


def queue(name: str, processes: int = 1, more: str = "") -> str:
    return f'\n[[queue]]\nname = "{name}"\nprocesses = {processes}\ntimeout = 5\n{more}\n'

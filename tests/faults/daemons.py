"""Redis and MariaDB that can be killed, frozen and started again on what they had written."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pymysql
import redis


def program(name: str) -> str:
    """The path of a program; raises FileNotFoundError."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin")
    if not found:
        raise FileNotFoundError(f"{name} is not installed")
    return found


class Daemon:
    """A server process. `answers` raises or is False while it is away."""

    def __init__(self, command: Sequence[str], answers: Callable[[], object], log: Path) -> None:
        self._command, self._answers, self._log = list(command), answers, log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while not self._is_up():
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise RuntimeError(f"{self._command[0]} does not start: {self._log.read_text()[-800:]}")
            time.sleep(0.05)

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(number)
            self._process.wait(60)

    def has_ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def freeze(self) -> None:
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process
        self._process.send_signal(signal.SIGCONT)

    def _is_up(self) -> bool:
        try:
            return bool(self._answers())
        except (redis.RedisError, pymysql.Error, OSError):
            return False


class Redis(Daemon):
    """As the embedded one: an append-only file, written once a second."""

    def __init__(self, directory: Path) -> None:
        socket = directory / "redis.sock"
        self.url = f"unix://{socket}"
        self.client = redis.Redis(unix_socket_path=str(socket), socket_timeout=5)
        command = [program("redis-server"), "--port", "0", "--unixsocket", str(socket), "--dir", str(directory)]
        durable = ["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]
        super().__init__(command + durable, self.client.ping, directory / "redis.log")


class MariaDB(Daemon):
    """On a socket of its own, with one empty database; durable at every commit."""

    def __init__(self, directory: Path, disk: Path) -> None:
        """Sockets and logs in `directory`, everything that grows on `disk`."""
        data, temporary, self.socket = disk / "mysql", disk / "tmp", directory / "mysql.sock"
        # Of its own: a MariaDB that starts deletes what others of its kind keep in /tmp.
        temporary.mkdir()
        user = ["--user=root"] if os.getuid() == 0 else []
        small = ["--innodb-log-file-size=32M", "--innodb-buffer-pool-size=256M"]
        subprocess.run(
            [
                program("mariadb-install-db"), "--no-defaults", f"--datadir={data}", "--skip-test-db",
                "--auth-root-authentication-method=normal", f"--tmpdir={temporary}", small[0], *user,
            ],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.url = f"mysql://root@localhost/mailcrew?unix_socket={self.socket}"
        super().__init__(
            [
                program("mariadbd"), "--no-defaults", f"--datadir={data}", f"--socket={self.socket}",
                "--skip-networking", f"--pid-file={directory / 'mysql.pid'}", "--character-set-server=utf8mb4",
                f"--tmpdir={temporary}", "--innodb-flush-log-at-trx-commit=1", "--max-connections=200", *small, *user,
            ],
            lambda: self.ask("SELECT 1"),
            directory / "mysql.log",
        )  # fmt: skip

    def start(self) -> None:
        super().start()
        self.ask("CREATE DATABASE IF NOT EXISTS mailcrew CHARACTER SET utf8mb4")

    def ask(self, sql: str) -> list[tuple[object, ...]]:
        """Run a statement as the administrator; always at least one row."""
        connection = pymysql.connect(unix_socket=str(self.socket), user="root", read_timeout=20, autocommit=True)
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return list(cursor.fetchall()) or [()]
        finally:
            connection.close()

    def kill_connections(self) -> int:
        """KILL every connection but this one; how many there were."""
        killed = 0
        for (number,) in self.ask("SELECT id FROM information_schema.processlist WHERE db = 'mailcrew'"):
            try:
                self.ask(f"KILL {number}")
                killed += 1
            except pymysql.Error:
                pass  # it has gone meanwhile
        return killed

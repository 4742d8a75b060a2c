"""Real services for the tests, each private: own directory, own socket, gone with the session."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pymysql
import pytest
import redis


def need(program: str) -> str:
    """The path of a program. Missing: the test is skipped at home and fails in CI."""
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin:/usr/local/sbin")
    if found:
        return found
    if os.environ.get("CI"):
        pytest.fail(f"{program} is not installed, and CI must run every test")
    pytest.skip(f"{program} is not installed")


@contextmanager
def private_mariadb(directory: Path, *options: str) -> Iterator[str]:
    """A MariaDB on a socket in `directory`; yields a DATABASE_URL without the database's name.

    `options`: further ones, which win over ours.
    """
    server, install = need("mariadbd"), need("mariadb-install-db")
    data, socket = directory / "data", directory / "mysql.sock"
    user = ["--user=root"] if os.getuid() == 0 else []
    # Of its own: a MariaDB that starts deletes what others of its kind keep in /tmp, also those that are being made.
    tmp = directory / "tmp"
    tmp.mkdir()
    made = subprocess.run(
        [
            install, "--no-defaults", f"--datadir={data}", f"--tmpdir={tmp}",
            "--auth-root-authentication-method=normal", *user,
        ],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert made.returncode == 0, made.stdout
    log = (directory / "mariadb.log").open("w")
    process = subprocess.Popen(
        [
            server,
            "--no-defaults",
            f"--datadir={data}",
            f"--socket={socket}",
            "--skip-networking",
            *user,
            f"--pid-file={directory / 'pid'}",
            f"--tmpdir={tmp}",
            "--innodb-buffer-pool-size=512M",
            "--innodb-log-file-size=256M",
            "--innodb-flush-log-at-trx-commit=1",
            "--character-set-server=utf8mb4",
            "--max-connections=200",
            *options,
        ],
        stdout=log,
        stderr=log,
    )
    try:
        _wait(lambda: pymysql.connect(unix_socket=str(socket), user="root").close(), pymysql.Error, process)
        yield f"mysql://root@localhost/{{name}}?unix_socket={socket}"
    finally:
        process.terminate()
        process.wait(60)
        log.close()


@contextmanager
def private_redis(directory: Path, program: str | None = None) -> Iterator[str]:
    """A Redis on a socket in `directory`, of the machine's version unless `program` is another; yields its URL."""
    socket = directory / "redis.sock"
    process = subprocess.Popen(
        [
            program or need("redis-server"),
            "--port",
            "0",
            "--unixsocket",
            str(socket),
            "--save",
            "",
            "--dir",
            str(directory),
        ],
        stdout=subprocess.DEVNULL,
    )
    try:
        client = redis.Redis(unix_socket_path=str(socket))
        _wait(client.ping, redis.RedisError, process)
        client.close()
        yield f"unix://{socket}"
    finally:
        process.terminate()
        process.wait(20)


def _wait(probe: object, error: type[Exception], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            probe()  # type: ignore[operator]
            return
        except error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.05)

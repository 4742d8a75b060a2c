"""bin/web as supervisord runs it: real gunicorn, real workers, real requests."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.config import ROOT, Settings
from app.db import Db
from app.models.tokens import create_token
from app.web.main import listen
from tests.deployed import kill_all
from tests.ports import free_port
from tests.services import need
from tests.supervised import REDIS, Stack, queue
from tests.working import eventually

WEB = f'\n[[service]]\nname = "web"\ncommand = "{{python}} {ROOT}/bin/web"\npriority = 800\n'

CREATE = (
    "import argparse; from app.cli import tokens; from app.cli.running import run; p = argparse.ArgumentParser();"
    "tokens.add(p.add_subparsers()); raise SystemExit(run(p, ['tokens', 'create', 'operator']))"
)


class Site:
    """An address to ask, with or without a token."""

    def __init__(self, port: int, token: str = "") -> None:
        self._root, self._token = f"http://127.0.0.1:{port}", token

    def ask(self, path: str, document: object = None) -> tuple[int, Any]:
        """Status and JSON document of the answer; POST when there is a document to send."""
        request = urllib.request.Request(self._root + path)
        if document is not None:
            request.data = json.dumps(document).encode()
            request.add_header("Content-Type", "application/json")
        if self._token:
            request.add_header("Authorization", f"Bearer {self._token}")
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    @property
    def up(self) -> bool:
        try:
            return self.ask("/api/health")[0] in (200, 503)
        except OSError:
            return False


@pytest.fixture
def stack(short_directory: Path) -> Iterator[Stack]:
    """A home with a real Redis, real workers and the web service, not yet started."""
    need("redis-server")
    directory = Path(tempfile.mkdtemp(dir=short_directory))
    (directory / "root").mkdir()
    stack = Stack(directory / "root", directory / "home", REDIS + queue("send", 2) + queue("mail") + WEB, 1)
    worker = stack.root / "bin" / "worker"
    worker.unlink()
    worker.symlink_to(ROOT / "bin" / "worker")
    stack.environ["HTTP_BIND"] = f"127.0.0.1:{free_port()}"
    yield stack
    kill_all(stack.found())


def test_a_worker_stopped_over_http_is_replaced_and_the_others_stay(stack: Stack) -> None:
    assert "everything runs" in stack.run("start")
    port = int(stack.environ["HTTP_BIND"].rpartition(":")[2])
    created = subprocess.run([sys.executable, "-c", CREATE], env=stack.environ, text=True, capture_output=True)
    stranger, operator = Site(port), Site(port, created.stdout.strip())

    eventually(lambda: stranger.up, "the web service")
    well = (200, {"status": "ok", "database": True, "redis": True})
    eventually(lambda: stranger.ask("/api/health") == well, "all is well")
    assert stranger.ask("/api/workers")[0] == 401
    assert stranger.ask("/api/workers/stop", {})[0] == 401

    before = stack.pids()
    names = ["mail_00", "send_00", "send_01"]
    eventually(lambda: len(operator.ask("/api/workers")[1]) == 3, "three heartbeats")
    listed = operator.ask("/api/workers")[1]
    assert {one["program"]: one["pid"] for one in listed} == {name: before[name] for name in names}

    pid = before["send_00"]
    assert operator.ask(f"/api/workers/{pid}/status")[1]["queues"] == ["send"]
    assert operator.ask("/api/workers/stop", {"pid": before["web"]})[0] == 404
    assert operator.ask("/api/workers/stop", {"pid": pid}) == (200, {"stopping": [pid]})

    eventually(lambda: stack.pids().get("send_00", pid) != pid, "a fresh worker")
    after = stack.pids()
    assert {name for name in before if after.get(name) != before[name]} == {"send_00"}
    of_worker = stack.home / "logs" / "send_00.log"
    eventually(lambda: "Worker gracefully shutdown" in of_worker.read_text(), "what it said reaches its log")
    eventually(lambda: operator.ask(f"/api/workers/{after['send_00']}/status")[0] == 200, "its heartbeat")
    assert operator.ask(f"/api/workers/{pid}/status")[0] == 404

    log = (stack.home / "logs" / "web.log").read_text()
    assert {"GET", "POST"} <= {line.get("method") for line in map(json.loads, log.splitlines())}
    assert created.stdout.strip() not in log
    assert (stack.home / "logs" / "web.err").read_text() == ""
    assert stack.run("stop", "web") == "stopped: web\n"
    assert "killing 'web'" not in (stack.home / "logs" / "supervisord.log").read_text()
    assert not stranger.up


class Web:
    """bin/web as a process of its own."""

    def __init__(self, settings: Settings, bind: str) -> None:
        urls = {"DATABASE_URL": settings.database_url, "REDIS_URL": settings.redis_url}
        environ = {**os.environ, **urls, "MAILCREW_HOME": str(settings.home), "HTTP_BIND": bind}
        self._err = settings.logs / "web.err"
        with self._err.open("w") as err:
            command = [sys.executable, str(ROOT / "bin" / "web")]
            self.process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=err)

    def __enter__(self) -> Web:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(20)

    @property
    def errors(self) -> str:
        return self._err.read_text()


def test_a_taken_address_is_named_and_waited_for(db: Db, settings: Settings) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)) as other, Web(settings, f"127.0.0.1:{port}") as web:
        eventually(lambda: "HTTP_BIND" in web.errors, "the reason")
        assert f"HTTP_BIND=127.0.0.1:{port} cannot be used" in web.errors
        assert web.process.poll() is None
        other.close()
        eventually(lambda: Site(port).up, "it serves as soon as it can")
        assert web.errors.count("\n") == 1
        web.process.terminate()
        assert web.process.wait(20) == 0


def read_by_the_server(line: socket.socket) -> bool:
    """Whether the other side has accepted this connection and taken what came: proc(5), /proc/net/tcp."""
    (_, ours), (_, theirs) = line.getsockname(), line.getpeername()
    for row in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        local, remote, _, queues, *rest = row.split()[1:]
        if (local[-4:], remote[-4:]) == (f"{theirs:04X}", f"{ours:04X}"):
            return rest[4] != "0" and queues.endswith(":00000000")
    return False


def test_a_request_under_way_is_answered_before_the_end(db: Db, settings: Settings) -> None:
    port = free_port()
    with Web(settings, f"127.0.0.1:{port}") as web:
        eventually(lambda: Site(port).up, "it serves")
        with socket.create_connection(("127.0.0.1", port), timeout=20) as line:
            line.sendall(b"GET /api/health HTTP/1.1\r\nHost: x\r\n")
            eventually(lambda: read_by_the_server(line), "the server has the half request in hand")
            web.process.terminate()
            line.sendall(b"\r\n")
            assert line.recv(100).startswith(b"HTTP/1.1 200 ")
        assert web.process.wait(20) == 0


def test_an_address_that_others_can_reach_is_warned_of(db: Db, settings: Settings) -> None:
    port = free_port()
    with Web(settings, f"0.0.0.0:{port}") as web:
        eventually(lambda: Site(port).up, "it serves")
        assert "reachable from other machines" in web.errors


def test_it_listens_before_the_application_loads() -> None:
    loaded = "import sys; from app.web import main; print('flask' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", loaded], cwd=ROOT, text=True, capture_output=True, check=True)
    assert done.stdout == "False\n", "until then a connection is refused"


def test_a_connection_made_while_the_application_loads_holds_no_packet_back() -> None:
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        connected, _ = listener.accept()
        with connected:
            assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_body_without_an_announced_length_is_bounded_too(db: Db, settings: Settings) -> None:
    token, port = create_token("me", "admin", 1), free_port()
    with Web(settings, f"127.0.0.1:{port}") as web:
        eventually(lambda: Site(port).up, "it serves")
        with socket.create_connection(("127.0.0.1", port), timeout=20) as line:
            line.sendall(
                b"POST /api/workers/stop HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b"Transfer-Encoding: chunked\r\nAuthorization: Bearer " + token.encode() + b"\r\n\r\n"
            )
            chunk = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
            line.sendall(chunk * 6)
            assert line.recv(100).startswith(b"HTTP/1.1 413 ")
        assert web.process.poll() is None

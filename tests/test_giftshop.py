"""examples/giftshop as its README says: 19 processes of a company of its own, a task through each queue."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from app.config import ROOT
from app.scaling.table import load_table
from examples.giftshop import websocket
from examples.giftshop.backlog_monitor import BacklogMonitor
from examples.giftshop.enqueue import SAMPLE
from examples.giftshop.log_monitor import QUIET_SECONDS, LogMonitor
from tests.home_stack import HomeStack
from tests.ports import free_port
from tests.services import need
from tests.smtp_server import SmtpServer
from tests.working import eventually

FOLDER = ROOT / "examples" / "giftshop"
SECONDS = 120
CALLS = {
    "POST /api/exchanges", "GET /forecasts?product=roses", "PUT /api/forecasts/roses", "POST /api/bills/bill-1/process",
    "GET /api/cards/4012888888881881", "POST /chat", "POST /api/orders/order-1/confirm",
    "POST /api/orders/order-1/archive",
}  # fmt: skip


@pytest.fixture
def smtp() -> Iterator[SmtpServer]:
    with SmtpServer() as server:
        yield server


class Shop(HomeStack):
    """The gift shop in a home of its own, its endpoints and mail server on ports of this test."""

    def __init__(self, home: Path, smtp: SmtpServer) -> None:
        self.endpoints, self.websocket = free_port(), free_port()
        here = f"http://127.0.0.1:{self.endpoints}"
        super().__init__(
            home, "", QUEUES_FILE="examples/giftshop/queues.toml", GIFTSHOP_API=f"{here}/api",
            GIFTSHOP_FORECASTS=f"{here}/forecasts", GIFTSHOP_CHAT_WEBHOOK=f"{here}/chat",
            GIFTSHOP_SMTP=f"127.0.0.1:{smtp.port}", GIFTSHOP_WEBSOCKET=f"127.0.0.1:{self.websocket}",
        )  # fmt: skip

    def enqueue(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "examples.giftshop.enqueue", *arguments]
        return subprocess.run(command, cwd=ROOT, env=self.environ, text=True, check=True, capture_output=True).stdout

    def calls(self) -> list[tuple[str, Any]]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.endpoints}/calls", timeout=10) as answer:
            return [(line, content) for line, content in json.loads(answer.read())]

    def listen(self) -> socket.socket:
        """A browser's connection, its handshake done."""
        connected = socket.create_connection(("127.0.0.1", self.websocket), 30)
        key = base64.b64encode(os.urandom(16)).decode()
        connected.sendall(
            f"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += connected.recv(1)
        assert head.startswith(b"HTTP/1.1 101 ")
        return connected


def received(connected: socket.socket) -> tuple[int, bytes]:
    """Kind and content of the next frame, which is a short one; a ping before it is answered."""
    while True:
        first, size = exactly(connected, 2)
        kind, content = first & 0x0F, exactly(connected, size)
        if kind != websocket.PING:
            return kind, content
        connected.sendall(b"\x8a\x80\0\0\0\0")


def exactly(connected: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        more = connected.recv(size - len(found))
        assert more, "the server hung up"
        found += more
    return found


@pytest.fixture
def shop(short_directory: Path, smtp: SmtpServer) -> Iterator[Shop]:
    need("redis-server")
    shop = Shop(short_directory / f"shop-{os.urandom(3).hex()}", smtp)
    yield shop
    shop.end()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_task_goes_through_each_queue_of_the_19_processes(shop: Shop, smtp: SmtpServer) -> None:
    shop.run("supervisor-manager", "start", "--wait", "120")
    shop.run("supervisor-manager", "start", "demo-endpoints")
    own = [p for p in shop.processes() if p.group not in ("redis", "catcher", "demo-endpoints")]
    assert len(own) == 19
    assert {p.state for p in own} == {"RUNNING"}
    eventually(lambda: free_to_connect(shop.endpoints) and free_to_connect(shop.websocket), "they listen", SECONDS)
    browser = shop.listen()
    client = redis.Redis.from_url(shop.settings.redis_url)
    eventually(lambda: client.pubsub_numsub("giftshop:events")[0][1] == 1, "the service listens to Redis", SECONDS)

    sent = shop.enqueue("--each").splitlines()

    queues = {name for queue in load_table(FOLDER / "queues.toml").queues for name in queue.queues}
    assert {line.partition(":")[0] for line in sent} == queues
    eventually(lambda: {line for line, _ in shop.calls()} >= CALLS, "every call was made", SECONDS)
    assert smtp.wait_for(1, SECONDS)
    eventually(lambda: all(client.hlen(f"dramatiq:{queue}.msgs") == 0 for queue in queues), "all done", SECONDS)
    # The monitor may have seen the API before it was up, and have told the chat so.
    calls = [(line, content) for line, content in shop.calls() if "the shop's API" not in str(content)]
    assert sorted(line for line, _ in calls) == sorted(CALLS), f"each was made once: {calls}"
    assert ("POST /api/exchanges", {"order": "order-1", "card": "4012888888881881", "cents": 2500}) in calls
    assert smtp.counts() == {"ann@example.com": 1}
    told = [json.loads(received(browser)[1]) for _ in range(2)]
    assert {"event": "balance", "card": "…1881", "cents": 2500} in told
    assert {"event": "exchanged", "order": "order-1", "cents": 2500} in told

    pids = [p.pid for p in shop.processes() if p.pid]
    assert "stopped" in shop.run("supervisor-manager", "stop")
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
    assert received(browser) == (websocket.CLOSE, b"\x03\xe9"), "it says that it goes away"
    browser.close()
    client.close()


def free_to_connect(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
        return True
    except OSError:
        return False


def test_the_table_is_the_company_s() -> None:
    table = load_table(FOLDER / "queues.toml")
    shown = {q.name: (q.processes, q.priority, q.tries, q.timeout, q.memory, q.poll) for q in table.queues}
    assert shown["gift_card_exchange"] == (4, 100, 3, 300, 256, 1)
    assert shown["forecast_crawler"] == (2, 200, 3, 180, 256, 2)
    assert {q.name: q.backlog_alert for q in table.queues if q.backlog_alert < 1000} == {
        "gift_card_exchange": 100, "wechat-message": 50,
    }  # fmt: skip
    last = max(table.queues, key=lambda queue: queue.priority)
    assert (last.name, last.queues) == ("default", ("high", "default"))
    services = [s for s in table.services if s.autostart and s.when is None]
    assert sum(q.processes for q in table.queues) + len(services) == 19


def test_there_is_an_actor_and_a_sample_for_each_queue() -> None:
    from actors.broker import broker

    assert set(SAMPLE) <= set(broker.actors)
    served = {name for queue in load_table(FOLDER / "queues.toml").queues for name in queue.queues}
    assert {broker.actors[actor].queue_name for actor in SAMPLE} == served


def test_the_log_monitor_alarms_once_a_minute_on_new_lines_only(tmp_path: Path) -> None:
    log = tmp_path / "mail_00.err"
    log.write_text("old error\n")
    monitor = LogMonitor(tmp_path)
    assert list(monitor.look(0)) == []

    with log.open("a") as file:
        file.write('{"level": "warning", "event": "task failed", "reason": "OSError: gone"}\n')
        file.write('{"level": "info", "event": "fine"}\nScheduling Actor(a)\nValueError: x\nunfinished')
    assert list(monitor.look(1)) == ["mail_00: task failed: OSError: gone (and 1 more lines)"]
    with log.open("a") as file:
        file.write(" error\n")
    assert list(monitor.look(2)) == []
    assert list(monitor.look(2 + QUIET_SECONDS)) == ["mail_00: unfinished error"]

    log.rename(tmp_path / "mail_00.err.1")
    log.write_text("failed after the rotation\n")
    (tmp_path / "wechat-message_00.err").write_text("error of the carrier of alarms\n")
    assert list(monitor.look(300)) == ["mail_00: failed after the rotation"]


def test_the_backlog_monitor_says_a_trouble_once_when_it_comes_and_once_when_it_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GIFTSHOP_API", f"http://127.0.0.1:{free_port()}/api")
    monitor, queue = BacklogMonitor(), load_table(FOLDER / "queues.toml").queues[0]

    assert list(monitor._queue(queue, 100)) == []
    assert list(monitor._queue(queue, 101)) == ["gift_card_exchange is behind: 101 tasks wait, the limit is 100"]
    assert list(monitor._queue(queue, 200)) == []
    assert list(monitor._queue(queue, 51)) == []
    assert list(monitor._queue(queue, 50)) == ["gift_card_exchange has caught up: 50 tasks wait"]
    (down,) = monitor._api()
    assert down.startswith("the shop's API does not answer: ")
    assert list(monitor._api()) == []


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        (("GET / ", "POST / "), "400"),
        (("Upgrade: websocket", "Upgrade: h2c"), "400"),
        (("Connection: Upgrade", "Connection: close"), "400"),
        (("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="), "400"),
        (("Version: 13", "Version: 8"), "426"),
    ],
)
def test_what_is_no_handshake_is_refused(change: tuple[str, str], answer: str) -> None:
    # The example of RFC 6455, section 1.3.
    asked = (
        "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in websocket.accept(asked.encode())

    with pytest.raises(websocket.NotWebSocket) as refused:
        websocket.accept(asked.replace(*change).encode())

    assert refused.value.answer.startswith(f"HTTP/1.1 {answer} ".encode())

"""The whole stack behind the console: supervisord, workers, scheduler and web of one home, and servers for its mail."""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dramatiq

from app.queues.broker import make_broker
from app.queues.tickets import enqueue
from tests.home_stack import HomeStack
from tests.ports import free_port
from tests.smtp_faults import Event, Fault, drop, reply
from tests.smtp_server import SmtpServer
from tests.working import eventually

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
poll = 0.2

[[queue]]
name = "mail"
priority = 120
threads = 2
poll = 0.2

[[queue]]
name = "expand"
priority = 150
threads = 1
poll = 0.2

[[queue]]
name = "send"
priority = 200
threads = 2
poll = 0.2

[[service]]
name = "web"
command = "{python} {root}/bin/web"
priority = 800

[[service]]
name = "scheduler"
command = "{python} {root}/bin/scheduler"
priority = 900
"""

#: What the server says of addresses that begin so.
GONE = "550 5.1.1 no such user here"
FULL = "552 5.2.2 mailbox full"


class Receiver(SmtpServer):
    """Refuses `gone…` and `full…`, never answers for `lost…`, takes `pace` seconds for a mail until `calm` is set."""

    def __init__(self, pace: float) -> None:
        super().__init__(plan=self._plan)
        self.calm = threading.Event()
        self._pace = pace

    def __enter__(self) -> Receiver:
        super().__enter__()
        return self

    def _plan(self, event: Event) -> Fault | None:
        if event.verb == "RCPT":
            said = {"gone": GONE, "full": FULL}.get(event.recipient[:4])
            return reply(said) if said else None
        if event.verb == "DOT":
            self.calm.wait(self._pace)
            return drop() if event.recipient.startswith("lost") else None
        return None


class ConsoleStack(HomeStack):
    """A home whose console answers at `site`."""

    @property
    def site(self) -> str:
        host, port = self.settings.http_bind
        return f"http://{host}:{port}"

    def start(self) -> None:
        """Return when every process runs and the console answers."""
        self.run("supervisor-manager", "start")
        eventually(self._answers, "the console answers")

    def tick(self) -> None:
        """Have begun what is due, as the scheduler does at every full minute."""
        before = dramatiq.broker.global_broker
        broker = make_broker(self.settings.redis_url)
        try:
            enqueue(broker, "periodic", "start_campaigns")
        finally:
            broker.client.close()
            dramatiq.broker.global_broker = before

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.site}/api/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@contextmanager
def console_stack(directory: Path, table: str = TABLE, **environ: str) -> Iterator[ConsoleStack]:
    """A running stack that is gone at the end, whatever happened."""
    stack = ConsoleStack(directory / "home", table, HTTP_BIND=f"127.0.0.1:{free_port()}", **environ)
    try:
        stack.start()
        yield stack
    finally:
        stack.end()

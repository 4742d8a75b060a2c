"""`queues = ["high", "default"]`: nothing of `default` starts while `high` has work, shown by a trace."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dramatiq
import pytest
from dramatiq.broker import Broker
from dramatiq.brokers.redis import RedisBroker

from app.config import Settings, make_home, read_settings
from app.queues.broker import make_broker
from app.queues.tickets import enqueue
from tests.ordered_actors import MORE, TRACE
from tests.working import WorkerProcess, eventually

THREADS = 4
SECONDS = 60


@pytest.fixture
def settings(tmp_path_factory: pytest.TempPathFactory, redis_server: str) -> Settings:
    home = tmp_path_factory.mktemp("order")
    made = read_settings({"MAILCREW_HOME": str(home), "REDIS_URL": f"{redis_server}?db=12"}, root=home)
    make_home(made)
    return made


@pytest.fixture
def broker(settings: Settings) -> Iterator[RedisBroker]:
    before: Broker | None = dramatiq.broker.global_broker
    broker = make_broker(settings.redis_url)
    broker.client.flushdb()
    yield broker
    broker.client.flushdb()
    broker.client.close()
    dramatiq.broker.global_broker = before


def test_nothing_of_default_starts_while_high_has_work(settings: Settings, broker: RedisBroker) -> None:
    for number in range(40):
        enqueue(broker, "default", "ordinary", [str(number)])
    # Early, so that `high` is never empty before the first of what it asks for is there.
    for name in ("asks for more", *map(str, range(30))):
        enqueue(broker, "high", "urgent", [name])

    arguments = ("--queues", "high,default", "--threads", str(THREADS), "--modules", "tests.ordered_actors")
    high, default = 31 + 2 * MORE, 40
    with WorkerProcess(settings, *arguments, name="default_00") as worker:
        eventually(lambda: broker.client.llen(TRACE) == high + default + 1, "all have run", SECONDS)
        assert worker.alive
    stored: Any = broker.client.lrange(TRACE, 0, -1)
    trace = [entry.decode() for entry in stored]

    # Threads that begin at the same instant may write in either order. So behind the first of default there may
    # be what the other threads had in hand by then, and nothing that still waited.
    begins = next(at for at, entry in enumerate(trace) if entry.startswith("default"))
    overtaken = [entry for entry in trace[begins:] if entry.startswith("high") and entry != "high late"]
    assert len(overtaken) < THREADS, f"default overtook high: {trace}"

    # From here on high has work again: what the other threads had in hand may still start, then high alone.
    there = trace.index("more is there")
    end = max(at for at, entry in enumerate(trace) if entry == "high late")
    between = [entry for entry in trace[there:end] if entry.startswith("default")]
    assert len(between) <= 2 * (THREADS - 1), f"default overtook high: {trace}"

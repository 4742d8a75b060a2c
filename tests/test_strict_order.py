"""`queues = ["high", "default"]`: nothing of `default` starts while `high` has work, shown by a trace."""

from __future__ import annotations

from collections.abc import Iterator

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
    trace = [entry.decode() for entry in broker.client.lrange(TRACE, 0, -1)]

    first = [entry.split()[0] for entry in trace[: 31 + MORE]]
    assert first == ["high"] * (31 + MORE), "all of high first, also what came while it ran"
    there = trace.index("more is there")
    rest = trace[there + 1 :]
    late = [at for at, entry in enumerate(rest) if entry == "high late"]
    # What was in the hands of the other threads at that instant may still start; after it, high alone.
    between = [entry for entry in rest[: late[-1]] if entry.startswith("default")] if late else []
    assert len(between) < THREADS, f"default overtook high: {trace}"

"""How long every page and every GET of the API takes, each time made anew."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median, quantiles
from typing import Any

import dramatiq
import redis

from app.config import ROOT
from app.queues import keys
from app.web.application import create_app
from bench.common import Place, tell
from bench.console.routes import Route, routes
from bench.console.seeding import SEEDED, seed
from bench.console.site import Asker, Site, site
from tests.web import plant

#: The heartbeats of so many workers are kept fresh.
WORKERS = 24
DEAD_LETTERS = 5000
#: A page's median may take so long, in ms.
BAR = 300

Times = dict[Route, list[float]]


def pages(place: Place, rounds: int) -> Times:
    """The ms of every look at every route over a seeded database."""
    # First: a parameter that nobody knows a value for is told before minutes of seeding.
    found = routes(create_app(place.settings, ROOT, place.db), SEEDED, range(1, 4))
    seed(place)
    client: Any = redis.Redis.from_url(place.settings.redis_url)
    bury(client)
    with living(client), site(place) as served:
        return measured(served, found, rounds)


def measured(served: Site, found: list[Route], rounds: int) -> Times:
    """Every route in turn, `rounds` times after one that does not count: templates are compiled then."""
    person, script = Asker(served), Asker(served, served.token)
    person.log_in()
    times: Times = {route: [] for route in found}
    for number in range(rounds + 1):
        for route in found:
            # Whoever changes something sees it at once: nothing that viewers share is left over.
            script.post("/api/nothing")
            asker = person if route.is_page else script
            path = route.paths[number % len(route.paths)]
            answer = asker.get(path)
            if answer.status not in (200, 404):
                raise RuntimeError(f"GET {path}: {answer.status} {answer.body[:300].decode(errors='replace')}")
            if number:
                times[route].append(answer.seconds * 1000)
        tell(f"round {number}: {len(found)} routes")
    return times


def spread(values: list[float]) -> tuple[float, float]:
    """Median and 95 %."""
    return median(values), quantiles(values, n=20)[-1] if len(values) > 1 else values[0]


def bury(client: Any) -> None:
    """Dead letters, and some messages that wait."""
    with client.pipeline(transaction=False) as pipe:
        for number in range(DEAD_LETTERS):
            message: dramatiq.Message[None] = dramatiq.Message(
                queue_name="monitor", actor_name="monitor", args=(number, "token"), kwargs={},
                options={"redis_message_id": str(number), "traceback": "Traceback\\n  File x\\nValueError: no"},
            )  # fmt: skip
            pipe.hset(keys.dead_messages("monitor"), str(number), message.encode())
            pipe.zadd(keys.dead("monitor"), {str(number): 1_790_000_000_000 + number})
        pipe.execute()


@contextmanager
def living(client: Any) -> Iterator[None]:
    """Workers that are heard of as long as this lasts."""
    over = threading.Event()

    def beat() -> None:
        while True:
            for pid in range(1, WORKERS + 1):
                plant(client, pid, processed_count=pid * 1000, is_processing=bool(pid % 2), task="send", campaign_id=1)
            if over.wait(5):
                return

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()

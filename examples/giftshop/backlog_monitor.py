"""Alarms when a queue is longer than its `backlog_alert` in the table, or the shop's API does not answer."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from actors.broker import broker
from app.config import settings
from app.queues.tickets import waiting
from app.scaling.table import Queue, load_table
from examples.giftshop.calls import Rejected, call
from examples.giftshop.config import url
from examples.giftshop.watching import watch

LOOK_SECONDS = 15.0
#: An alarmed queue counts as caught up below this share of its limit, or each look would say something else.
CAUGHT_UP = 0.5


class BacklogMonitor:
    """Says each trouble once when it comes and once when it goes."""

    def __init__(self) -> None:
        self._behind: set[str] = set()
        self._api_is_down = False

    def look(self, _now: float) -> Iterator[str]:
        for queue in load_table(settings().table_of()).queues:
            yield from self._queue(queue, sum(waiting(broker, name) for name in queue.queues))
        yield from self._api()

    def _queue(self, queue: Queue, count: int) -> Iterator[str]:
        if queue.name not in self._behind and count > queue.backlog_alert:
            self._behind.add(queue.name)
            yield f"{queue.name} is behind: {count} tasks wait, the limit is {queue.backlog_alert}"
        elif queue.name in self._behind and count <= queue.backlog_alert * CAUGHT_UP:
            self._behind.remove(queue.name)
            yield f"{queue.name} has caught up: {count} tasks wait"

    def _api(self) -> Iterator[str]:
        try:
            call("GET", f"{url('GIFTSHOP_API')}/health")
            trouble = ""
        except (Rejected, OSError) as error:
            trouble = str(error)
        if bool(trouble) != self._api_is_down:
            self._api_is_down = bool(trouble)
            yield f"the shop's API does not answer: {trouble}" if trouble else "the shop's API answers again"


def main() -> int:
    return watch("backlog and API", BacklogMonitor().look, LOOK_SECONDS)


if __name__ == "__main__":
    sys.exit(main())

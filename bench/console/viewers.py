"""What twenty people who look at a running campaign cost its sending rate.

Each has a session of their own and does what the page does by itself: its block `live` every two seconds with the mark
of what is there already, the plot every five. One thread asks for all of them, and the machine pays for its time too.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import common, table
from bench.common import Place
from bench.console.site import Asker, Site, site
from bench.table import Figure

VIEWERS, THREADS = 20, 4
LIVE_SECONDS, PLOT_SECONDS = 2.0, 5.0
#: What is left of the rate.
BAR = 0.95
LIST = "everybody"


def viewers(place: Place, mails: int, rounds: int) -> list[Figure]:
    """Runs with and without viewers take turns, the same web service running in both."""
    common.add_people(place.db, mails)
    common.add_list(place.db, LIST, 1, mails, mails)
    alone: list[float] = []
    watched: list[float] = []
    cores: list[float] = []
    with common.smtp_sink() as port, site(place) as served:
        common.add_sink_server(place.db, port)
        people = [Viewer(served) for _ in range(VIEWERS)]
        for number in range(rounds):
            alone.append(rate(place, mails))
            with looking(people, place) as seen:
                before, began = web_cpu(served), time.monotonic()
                watched.append(rate(place, mails))
                cores.append((web_cpu(served) - before) / (time.monotonic() - began) * 100)
            common.tell(
                f"{place.database} round {number + 1}: alone {alone[-1]:,.0f}/s, watched {watched[-1]:,.0f}/s by "
                f"{VIEWERS}, {sum(seen.values())} looks, web service {cores[-1]:.1f} % of a core"
            )
    return [
        table.ratio(
            f"{place.database}, the rate with {VIEWERS} viewers", watched, alone, bar=BAR, baseline="without them"
        ),
        table.figure(f"{place.database}, what the web service takes then", cores, unit=" %", bar=None,
                     details="of one core"),
    ]  # fmt: skip


def rate(place: Place, mails: int) -> float:
    """Mails a second of one worker process over a whole campaign."""
    campaign_id = common.start_campaign(place.db, [LIST])
    common.expand(place, campaign_id)
    with common.worker(place, threads=THREADS):
        common.wait(lambda: common.is_sent(place.db, campaign_id), 300, "the campaign does not end", 0.1)
    return common.sending_rate(place.db, campaign_id, mails)


def web_cpu(served: Site) -> float:
    """Seconds of processor time that the web service has taken: gunicorn's two processes."""
    children = Path(f"/proc/{served.pid}/task/{served.pid}/children").read_text().split()
    return sum(common.cpu_seconds(pid) for pid in (served.pid, *map(int, children)))


class Viewer:
    """Somebody with the page of a campaign open."""

    def __init__(self, served: Site) -> None:
        self._asker = Asker(served)
        self._asker.log_in()
        self._mark = self._tag = ""

    def open(self, campaign_id: int) -> None:
        self._mark = self._tag = ""
        assert self._asker.get(f"/campaigns/{campaign_id}").status == 200

    def live(self, campaign_id: int) -> int:
        answer = self._asker.get(f"/campaigns/{campaign_id}/live", **{"HX-Request": "true", "HX-PTag": self._mark})
        self._mark = answer.headers.get("HX-PTag", self._mark)
        return answer.status

    def plot(self, campaign_id: int) -> int:
        mark = {"If-None-Match": self._tag} if self._tag else {}
        answer = self._asker.get(f"/api/series/deliveries?campaign={campaign_id}", **mark)
        self._tag = answer.headers.get("ETag", self._tag)
        return answer.status


@contextmanager
def looking(people: list[Viewer], place: Place) -> Iterator[dict[int, int]]:
    """They look at the newest campaign as long as this lasts; how often each status was answered."""
    over, seen = threading.Event(), dict[int, int]()
    failed: list[Exception] = []
    # Asked before the next one can be made: a thread that is late would wait for the one after it.
    last = place.db.value("SELECT MAX(id) FROM campaigns")

    def look() -> None:
        try:
            _look(people, place, last, over, seen)
        except Exception as error:
            failed.append(error)
        finally:
            place.db.close()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()
    if failed or not seen or not set(seen) <= {200, 304}:
        raise RuntimeError(f"the viewers were answered {seen}") from (failed[0] if failed else None)


def _look(people: list[Viewer], place: Place, last: int | None, over: threading.Event, seen: dict[int, int]) -> None:
    while not over.is_set() and place.db.value("SELECT MAX(id) FROM campaigns") == last:
        over.wait(0.05)
    campaign_id = int(place.db.value("SELECT MAX(id) FROM campaigns"))
    # Spread over the time, as people are who did not all come at once.
    due = [(time.monotonic() + LIVE_SECONDS * n / len(people), n, False) for n in range(len(people))]
    due += [(time.monotonic() + PLOT_SECONDS * n / len(people), n, True) for n in range(len(people))]
    heapq.heapify(due)
    for viewer in people:
        viewer.open(campaign_id)
    while due and not over.wait(max(0.0, due[0][0] - time.monotonic())):
        at, number, is_plot = heapq.heappop(due)
        status = people[number].plot(campaign_id) if is_plot else people[number].live(campaign_id)
        seen[status] = seen.get(status, 0) + 1
        heapq.heappush(due, (at + (PLOT_SECONDS if is_plot else LIVE_SECONDS), number, is_plot))

"""Several SMTP servers with different limits: is everything got out of them, and not one mail more?

rates: three servers, one limited by the second, one by the minute, one by both; the rate that arrives, to the sum
of the limits, over whole minutes; the largest number in any window at each, to its limit.
trouble: the same, one server killed after half a minute and brought back; nobody is mailed twice or left out.
flush: a day limit of a third of the recipients; Redis loses everything in the middle of it.
weights: two campaigns with weights 1 and 3 behind one limit, and how far each is over time.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import redis

from app.mail.servers import add_server
from bench import common, table
from bench.common import Place
from bench.servers.counting import arrivals, counting_server, most_in
from bench.table import Figure

WORKERS, THREADS = 2, 4
WINDOWS = {"per_second": 1.0, "per_minute": 60.0}
LIMITS: dict[str, dict[str, int]] = {
    "by-second": {"per_second": 100},
    "by-minute": {"per_minute": 6000},
    "by-both": {"per_second": 50, "per_minute": 2400},
}
#: Seconds that the sum of the limits is measured over: whole windows, begun when all servers were idle.
MEASURED = 180
SHARE_BAR, OVER_BAR = 0.97, 1.0


def make_parser() -> argparse.ArgumentParser:
    parser = common.make_parser("servers", __doc__.splitlines()[0], "--database sqlite --only rates", 1)
    parser.add_argument("--only", choices=sorted(SCENES), action="append", help="default: all of them")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="write the drawing of `weights` as SVG")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    figures: list[Figure] = []
    for database in common.databases(args.database):
        for name in args.only or SCENES:
            common.tell(f"{database}: {name}")
            with common.place(database) as place, ExitStack() as stack:
                figures += SCENES[name](place, stack, args)
    return table.show(figures, args.json)


# -- scenes --------------------------------------------------------------------------------------


def rates(place: Place, stack: ExitStack, _args: argparse.Namespace) -> list[Figure]:
    """Two whole minute windows and the one after, at full limits."""
    logs = three_servers(place, stack)
    campaign = people_and_campaign(place, 80_000)
    workers(place, stack)
    common.wait(lambda: any(map(arrivals, logs.values())), 60, "the workers send nothing")
    time.sleep(MEASURED + 3)
    began = min(arrivals(log)[0][0] for log in logs.values())
    allowed = arrived = 0.0
    figures = []
    for name, log in logs.items():
        # From the last window begun to the end of the measurement each limit is used as a sliding one is: what may go
        # in `MEASURED` seconds is the limit's rate times them.
        mails = [instant for instant, _ in arrivals(log) if instant < began + MEASURED]
        may = min(limit * MEASURED / WINDOWS[kind] for kind, limit in LIMITS[name].items())
        allowed += may
        arrived += len(mails)
        figures.append(over_limit(place, name, log))
        common.tell(f"  {name}: {len(mails):,} of {may:,.0f} allowed in {MEASURED} s")
    assert not common.is_sent(place.db, campaign), "the campaign was too small to measure"
    what = f"{place.database}: three servers, mails to what the limits allow"
    return [table.figure(what, [arrived / allowed], unit="x", bar=SHARE_BAR), *figures]


def trouble(place: Place, stack: ExitStack, _args: argparse.Namespace) -> list[Figure]:
    """One server away from second 30 to 50: the others go on, it comes back, each person once."""
    ports = {name: common.free_port() for name in LIMITS}
    logs = {name: place.directory / f"{name}.log" for name in LIMITS}
    down = ExitStack()
    for name, limits in LIMITS.items():
        (down if name == "by-second" else stack).enter_context(counting_server(ports[name], logs[name]))
        add(place, name, ports[name], **limits)
    count = 45_000
    campaign = people_and_campaign(place, count)
    workers(place, stack)
    common.wait(lambda: len(arrivals(logs["by-second"])) > 3000, 120, "the workers send nothing")
    down.close()
    common.tell("  by-second: killed")
    away = time.monotonic()
    time.sleep(20)
    stack.enter_context(counting_server(ports["by-second"], logs["by-second"]))
    common.wait(
        lambda: arrivals(logs["by-second"])[-1][0] > away + 20, 300, "the server that came back is not used", 0.5
    )
    back = next(instant for instant, _ in arrivals(logs["by-second"]) if instant > away + 20)
    common.tell(f"  by-second: listens again after 20 s, used again after {back - away:.0f} s")
    common.wait(lambda: common.is_sent(place.db, campaign), 900, "the campaign does not end", 1)
    got = Counter(who for log in logs.values() for _, who in arrivals(log))
    unknown = int(place.db.value("SELECT SUM(unknown) FROM batches WHERE campaign_id = ?", campaign))
    others = [i for n in ("by-minute", "by-both") for i, _ in arrivals(logs[n]) if away < i < away + 20]
    common.tell(f"  the others meanwhile: {len(others):,} mails in 20 s; unknown: {unknown}")
    twice = sum(1 for times in got.values() if times > 1)
    missing = count - len(got) - unknown
    return [
        table.figure(f"{place.database}: killed and back, mailed twice", [twice], bar=0, at_most=True),
        table.figure(f"{place.database}: killed and back, left out", [max(0, missing)], bar=0, at_most=True),
        *(over_limit(place, name, log) for name, log in logs.items()),
    ]


def flush(place: Place, stack: ExitStack, _args: argparse.Namespace) -> list[Figure]:
    """A day limit of 5,000; everything in Redis goes after some 2,500."""
    limit = 5000
    log, port = place.directory / "day.log", common.free_port()
    stack.enter_context(counting_server(port, log))
    add(place, "day", port, per_day=limit, per_second=300)
    people_and_campaign(place, 15_000)
    workers(place, stack)
    common.wait(lambda: len(arrivals(log)) > limit / 2, 120, "the workers send nothing")
    redis.Redis.from_url(place.settings.redis_url).flushall()
    common.tell(f"  flushed at {len(arrivals(log)):,}")
    still = [0, time.monotonic()]

    def quiet() -> bool:
        if len(arrivals(log)) != still[0]:
            still[:] = [len(arrivals(log)), time.monotonic()]
        return time.monotonic() - still[1] > 10

    common.wait(quiet, 180, "it does not come to rest", 0.5)
    got = len(arrivals(log))
    held = place.db.value("SELECT held_by FROM campaigns")
    common.tell(f"  at rest with {got:,} of {limit:,}; held by {held}")
    what = f"{place.database}: Redis flushed in mid-day, mails to the day limit"
    return [
        table.figure(what, [got / limit], unit="x", bar=OVER_BAR, at_most=True),
        table.figure(f"{place.database}: the same, at least", [got / limit], unit="x", bar=SHARE_BAR),
    ]


def weights(place: Place, stack: ExitStack, args: argparse.Namespace) -> list[Figure]:
    """Weights 1 and 3 behind 200 a second: each one's share while both have something to send."""
    log, port = place.directory / "shared.log", common.free_port()
    stack.enter_context(counting_server(port, log))
    add(place, "shared", port, per_second=200)
    count = 9000
    common.add_people(place.db, 2 * count)
    one, three = (
        campaign_of(place, name, first, count, 2 * count, weight)
        for name, first, weight in (("weight 1", 1, 1), ("weight 3", count + 1, 3))
    )
    workers(place, stack)
    looks: list[tuple[float, int, int]] = []
    began = time.monotonic()
    while not looks or looks[-1][2] < count:
        looks.append((time.monotonic() - began, sent(place, one), sent(place, three)))
        if looks[-1][0] > 300:
            raise TimeoutError("the campaigns do not end")
        time.sleep(0.5)
    for line in plot(looks, count):
        common.tell(line)
    if args.svg:
        args.svg.write_text(as_svg(looks, count), encoding="utf-8")
    half = next(look for look in looks if look[2] >= count / 2)
    what = f"{place.database}: weight 3 to weight 1, when half of weight 3 is sent"
    return [
        table.figure(what, [half[2] / max(1, half[1])], unit="x", bar=2.7),
        table.figure(f"{what} (at most)", [half[2] / max(1, half[1])], unit="x", bar=3.3, at_most=True),
    ]


SCENES: dict[str, Callable[[Place, ExitStack, argparse.Namespace], list[Figure]]] = {
    "rates": rates,
    "trouble": trouble,
    "flush": flush,
    "weights": weights,
}

# -- what they share -----------------------------------------------------------------------------


def three_servers(place: Place, stack: ExitStack) -> dict[str, Path]:
    logs = {}
    for name, limits in LIMITS.items():
        logs[name], port = place.directory / f"{name}.log", common.free_port()
        stack.enter_context(counting_server(port, logs[name]))
        add(place, name, port, **limits)
    return logs


def add(place: Place, name: str, port: int, **limits: int) -> None:
    add_server(name=name, host="127.0.0.1", port=port, tls="none", now=place.db.now_ms(), **limits)


def people_and_campaign(place: Place, count: int) -> int:
    common.add_people(place.db, count)
    return campaign_of(place, "all", 1, count, count, 1)


def campaign_of(place: Place, name: str, first: int, count: int, of: int, weight: int) -> int:
    common.add_list(place.db, name, first, count, of)
    campaign = common.start_campaign(place.db, [name], name)
    place.db.run("UPDATE campaigns SET weight = ? WHERE id = ?", weight, campaign)
    common.expand(place, campaign)
    return campaign


def workers(place: Place, stack: ExitStack) -> None:
    for number in range(WORKERS):
        stack.enter_context(common.worker(place, threads=THREADS, name=f"bench_{number:02}"))


def sent(place: Place, campaign_id: int) -> int:
    return int(place.db.value("SELECT SUM(sent) FROM batches WHERE campaign_id = ?", campaign_id) or 0)


def over_limit(place: Place, name: str, log: Path) -> Figure:
    """The fullest window of any kind that the server limits, to its limit."""
    instants = [instant for instant, _ in arrivals(log)]
    fullest = max(most_in(instants, WINDOWS[kind]) / limit for kind, limit in LIMITS[name].items())
    return table.figure(
        f"{place.database}: {name}, fullest window to the limit", [fullest], unit="x", bar=OVER_BAR, at_most=True
    )


def plot(looks: Sequence[tuple[float, int, int]], count: int) -> list[str]:
    """Both campaigns' progress over time, a line a moment."""
    lines = [f"   time   {'weight 1':46} weight 3"]
    for number in range(21):
        wanted = looks[-1][0] * number / 20
        second, *both = next(look for look in looks if look[0] >= wanted)
        bars = ["█" * round(40 * done / count) + "·" * (40 - round(40 * done / count)) for done in both]
        lines.append(f"{second:5.1f} s   {bars[0]} {both[0] / count:4.0%}  {bars[1]} {both[1] / count:4.0%}")
    return lines


def as_svg(looks: Sequence[tuple[float, int, int]], count: int) -> str:
    """The same as a drawing: recipients sent over seconds."""
    width, height, left, low = 640, 300, 60, 260
    last = looks[-1][0]

    def line(column: int, colour: str) -> str:
        points = " ".join(f"{left + 540 * look[0] / last:.1f},{low - 220 * look[column] / count:.1f}" for look in looks)
        return f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{points}"/>'

    def text(x: float, y: float, words: str, anchor: str = "start") -> str:
        return f'<text x="{x}" y="{y}" text-anchor="{anchor}">{words}</text>'

    share = looks[-1][1] / count
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
            'font-size="12"><rect width="100%" height="100%" fill="#fff"/>',
            f'<path d="M{left} 40V{low}H600" fill="none" stroke="#888"/>',
            line(1, "#c2410c"), line(2, "#1d4ed8"),
            text(left, 24, "Two campaigns behind one limit of 200 mails a second: sent over time"),
            text(left - 6, 44, f"{count:,}", "end"), text(left - 6, low, "0", "end"),
            text(600, low + 18, f"{last:.0f} s", "end"),
            text(596, 36, "weight 3", "end"),
            text(596, low - 220 * share - 8, "weight 1", "end"),
            "</svg>\n",
        ]
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())

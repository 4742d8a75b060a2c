"""What a small campaign waits for behind a big one: 500 mails started while 100,000 are being sent.

Two worker processes serve both campaigns. The figure is the share of the big campaign that went
out between the small one's start and its end; first come, first served would make it all the rest.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from bench import common, table
from bench.common import Place
from bench.table import Figure

BIG, SMALL, WORKERS, THREADS = 100_000, 500, 2, 4
#: Percent of the big campaign that may be sent while the small one waits and is sent.
BAR_PERCENT = 10.0
WIDTH, LINES = 40, 30


@dataclass(frozen=True)
class Look:
    """How many of each campaign were sent, `second` after the workers' first mail."""

    second: float
    big: int
    small: int


def make_parser() -> argparse.ArgumentParser:
    parser = common.make_parser("fairness", __doc__.splitlines()[0], "--database sqlite", 1)
    parser.add_argument("--big", type=int, default=BIG, help=f"mails of the big campaign (default {BIG})")
    parser.add_argument("--small", type=int, default=SMALL, help=f"mails of the small one (default {SMALL})")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    figures: list[Figure] = []
    for database in common.databases(args.database):
        with common.place(database) as place, common.smtp_sink() as port:
            common.add_sink_server(place.db, port)
            common.add_people(place.db, args.big)
            common.add_list(place.db, "big", 1, args.big, args.big)
            common.add_list(place.db, "small", 1, args.small, args.big)
            figures.append(measure(place, args))
    return table.show(figures, args.json)


def measure(place: Place, args: argparse.Namespace) -> Figure:
    shares: list[float] = []
    notes: list[str] = []
    for _ in range(args.rounds):
        looks, started = race(place, args)
        at_start = next(look for look in looks if look.second >= started)
        at_end = next(look for look in looks if look.small >= args.small)
        shares.append(100 * (at_end.big - at_start.big) / args.big)
        notes.append(f"small {at_end.second - started:.1f} s, big {looks[-1].second:.1f} s")
        for line in plot(looks, started, args):
            common.tell(line)
    what = f"{place.database}: of the big one while the small one was sent"
    return table.figure(what, shares, unit=" %", bar=BAR_PERCENT, at_most=True, details="; ".join(notes))


def race(place: Place, args: argparse.Namespace) -> tuple[list[Look], float]:
    """What was seen from the first mail on, and the second at which the small campaign was started."""
    big = common.start_campaign(place.db, ["big"], "big")
    common.expand(place, big)
    looks: list[Look] = []
    with ExitStack() as stack:
        for number in range(WORKERS):
            stack.enter_context(common.worker(place, threads=THREADS, name=f"bench_{number:02}"))
        common.wait(lambda: sent(place, big), 60, "the workers send nothing", 0.02)
        began, small, started = time.monotonic(), 0, 0.0
        while not looks or looks[-1].big < args.big or looks[-1].small < args.small:
            second = time.monotonic() - began
            looks.append(Look(second, sent(place, big), sent(place, small)))
            if not small and looks[-1].big > args.big / 20:
                started = time.monotonic() - began
                small = common.start_campaign(place.db, ["small"], "small")
                common.expand(place, small)
            if second > 300:
                raise TimeoutError("the campaigns do not end")
            time.sleep(0.05)
    return looks, started


def sent(place: Place, campaign_id: int) -> int:
    return int(place.db.value("SELECT SUM(sent) FROM batches WHERE campaign_id = ?", campaign_id) or 0)


def plot(looks: Sequence[Look], started: float, args: argparse.Namespace) -> list[str]:
    """Both campaigns' progress over time, a line a moment."""
    lines = [f"   time   {f'big: {args.big:,}':{WIDTH + 8}} small: {args.small:,}, started at {started:.1f} s"]
    for number in range(LINES + 1):
        wanted = looks[-1].second * number / LINES
        look = next(look for look in looks if look.second >= wanted)
        bars = [_bar(look.big / args.big), _bar(look.small / args.small) if look.second >= started else ""]
        lines.append(f"{look.second:5.1f} s   {bars[0]}   {bars[1]}")
    return lines


def _bar(share: float) -> str:
    full = round(share * WIDTH)
    return f"{'█' * full}{'·' * (WIDTH - full)} {share:4.0%}"


if __name__ == "__main__":
    sys.exit(main())

"""Pauses in the middle of 10,000 mails at full speed: how long until nothing is in hand, and what arrives after it.

Two workers of four threads send into a server that notes the instant of every mail. The campaign is paused at a
quarter, at a half and at three quarters, as `campaigns pause` does; two seconds after each it goes on. In the end
everybody has one mail.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from app.campaigns.halting import pause_campaign, resume_campaign, wait_until_quiet
from app.mail.servers import add_server
from bench import common, table
from bench.common import Place
from bench.servers.counting import arrivals, counting_server
from bench.table import Figure

PEOPLE, WORKERS, THREADS = 10_000, 2, 4
PAUSES = (0.25, 0.5, 0.75)
#: What the command promises: back within this many seconds, or it says how many are in hand.
BAR = 2.0


def make_parser() -> argparse.ArgumentParser:
    return common.make_parser("pausing", __doc__.splitlines()[0], "--database sqlite --rounds 3", 1)


def main(argv: Sequence[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    figures: list[Figure] = []
    for database in common.databases(args.database):
        took: list[float] = []
        after, twice, missing = [], [], []
        for number in range(args.rounds):
            with common.place(database) as place, ExitStack() as stack:
                log, seconds, late = paused_campaign(place, stack)
                got = Counter(who for _, who in arrivals(log))
            took += seconds
            after.append(late)
            twice.append(sum(times > 1 for times in got.values()))
            missing.append(PEOPLE - len(got))
            common.tell(f"{database} round {number + 1}: " + ", ".join(f"{one:.2f} s" for one in seconds))
        figures += [
            table.figure(f"{database}: from pause to nothing in hand", took, unit=" s", bar=BAR, at_most=True),
            table.figure(f"{database}: mails accepted after that", after, bar=0, at_most=True),
            table.figure(f"{database}: mailed twice", twice, bar=0, at_most=True),
            table.figure(f"{database}: left out", missing, bar=0, at_most=True),
        ]
    return table.show(figures, args.json)


def paused_campaign(place: Place, stack: ExitStack) -> tuple[Path, list[float], int]:
    """The server's notes, how long each pause took in seconds, and how many mails arrived in paused times."""
    log, port = place.directory / "mails.log", common.free_port()
    stack.enter_context(counting_server(port, log))
    add_server(name="one", host="127.0.0.1", port=port, tls="none", now=place.db.now_ms())
    common.add_people(place.db, PEOPLE)
    common.add_list(place.db, "all", 1, PEOPLE, PEOPLE)
    campaign = common.start_campaign(place.db, ["all"])
    common.expand(place, campaign)
    for number in range(WORKERS):
        stack.enter_context(common.worker(place, threads=THREADS, name=f"bench_{number:02}"))
    took: list[float] = []
    paused: list[tuple[float, float]] = []
    for share in PAUSES:
        reached = partial(has_arrived, log, PEOPLE * share)
        common.wait(reached, 60, "the workers send nothing", 0.002)
        began = time.monotonic()
        assert pause_campaign(place.db, campaign).changed
        assert wait_until_quiet(place.db, campaign).batches == 0
        quiet = time.monotonic()
        took.append(quiet - began)
        time.sleep(2)
        paused.append((quiet, time.monotonic()))
        resume_campaign(place.db, campaign, place.db.now_ms())
    common.wait(lambda: common.is_sent(place.db, campaign), 120, "the campaign does not end")
    late = sum(begin <= at <= end for at, _ in arrivals(log) for begin, end in paused)
    return log, took, late


def has_arrived(log: Path, mails: float) -> bool:
    return log.exists() and log.read_bytes().count(b"\n") >= mails


if __name__ == "__main__":
    sys.exit(main())

"""How fast the users who are due are claimed and enqueued, beside one bulk UPDATE, and how late their runs begin.

100,000 users with intervals of 1 to 60 minutes, of which a tenth is due. Ours is the minute tick: `dispatch` with a
real Redis, in a process of its own. The baseline claims the same users with a single UPDATE and enqueues nobody.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from bench import common, table
from bench.common import Place
from bench.schedules import overload, week
from bench.schedules.crowd import USERS, fill
from bench.schedules.lag import lag
from bench.schedules.long_queue import long_queue
from bench.schedules.ticks import claiming, looking, tick_here, ticking, together
from bench.table import Figure


def make_parser() -> argparse.ArgumentParser:
    parser = common.make_parser("schedules", __doc__.splitlines()[0], "--database sqlite --long-queue", 3)
    parser.add_argument(
        "--users", type=int, metavar="N",
        help=f"how many (default {USERS:,}, a tenth of them due; of --week {week.USERS:,})",
    )  # fmt: skip
    parser.add_argument("--workers", type=int, default=2, help="for the lag: workers of 2 threads (default 2)")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--long-queue", action="store_true", help="instead: 50 users with 4 minutes of work each, in virtual time"
    )
    instead.add_argument(
        "--overload", action="store_true", help="instead: real workers with more work than they can do, for 8 minutes"
    )
    instead.add_argument(
        "--week", type=int, metavar="DAYS", help="instead: 1,000 users for so many days of virtual time and misfortune"
    )
    instead.add_argument("--tick", action="store_true", help=argparse.SUPPRESS)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    if args.tick:
        return tick_here()
    figures: list[Figure] = []
    for database in common.databases(args.database):
        with common.place(database, **(overload.VARIABLES if args.overload else {})) as place:
            figures += measured(place, args)
    return table.show(figures, args.json)


def measured(place: Place, args: argparse.Namespace) -> list[Figure]:
    if args.long_queue:
        return long_queue(place)
    if args.overload:
        return overload.overload(place)
    if args.week:
        return week.week(place, args.week, args.users or week.USERS)
    args.users = args.users or USERS
    fill(place, args.users)
    parts = (claiming, ticking, together, looking, lag)
    return [figure for part in parts for figure in part(place, args)]


if __name__ == "__main__":
    sys.exit(main())

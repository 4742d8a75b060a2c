"""How long the console takes over 1,000,000 recipients and 500 campaigns, and what viewers cost a running campaign.

pages: every page and every GET of the API, each time made anew and not from what viewers share; median and 95 %.
viewers: a worker's rate while twenty people look at its campaign, to its rate while nobody does.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from bench import common, table
from bench.console.pages import BAR, Times, pages, spread
from bench.console.viewers import viewers
from bench.table import Figure


def make_parser() -> argparse.ArgumentParser:
    parser = common.make_parser("console", __doc__.splitlines()[0], "--database sqlite --only pages", 5)
    parser.add_argument("--only", choices=("pages", "viewers"), help="default: both")
    parser.add_argument("--mails", type=int, default=150_000, help="of each run with or without viewers (150000)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    times: dict[str, Times] = {}
    figures: list[Figure] = []
    for database in common.databases(args.database):
        if args.only != "viewers":
            with common.place(database) as place:
                times[database] = pages(place, args.rounds)
            figures += judged(database, times[database])
        if args.only != "pages":
            with common.place(database) as place:
                figures += viewers(place, args.mails, args.rounds)
    show(times, args.json)
    return table.show(figures, args.json)


def judged(database: str, times: Times) -> list[Figure]:
    """The slowest page, and the slowest answer of the API."""
    found = []
    for what, is_page in (("page", True), ("answer of the API", False)):
        slowest = max((route for route in times if route.is_page is is_page), key=lambda route: spread(times[route])[0])
        found.append(
            table.figure(
                f"{database}, the slowest {what}", times[slowest], unit=" ms", bar=BAR, at_most=True,
                details=slowest.name,
            )
        )  # fmt: skip
    return found


def show(times: dict[str, Times], as_json: bool) -> None:
    """Every route with its median and 95 % on each database, the slowest first."""
    rows: dict[str, dict[str, tuple[float, float]]] = {}
    for database, one in times.items():
        for route, values in one.items():
            rows.setdefault(route.name, {})[database] = spread(values)
    ordered = sorted(rows.items(), key=lambda row: -max(middle for middle, _ in row[1].values()))
    if as_json:
        print(json.dumps({name: {d: {"median": m, "p95": p} for d, (m, p) in row.items()} for name, row in ordered}))
        return
    wide = max((len(name) for name in rows), default=0)
    print(f"{'':{wide}}" + "".join(f"  {database:>8} {'95 %':>8}" for database in times))
    for name, row in ordered:
        print(f"{name:{wide}}" + "".join(f"  {row[d][0]:8.1f} {row[d][1]:8.1f}" for d in times))


if __name__ == "__main__":
    sys.exit(main())

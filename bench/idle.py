"""What a worker with nothing to do costs: memory, Redis commands and database statements a second.

Memory is PSS (proc(5), smaps_rollup): pages of our own plus our share of those that several
processes map. Each figure is taken from a fresh `bin/worker --queues send` after it has rested.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import redis

from app.config import ROOT
from bench import common, table
from bench.common import Place
from bench.table import Figure

MEMORY_BAR_MB = 60.0
THREADS = 4
MODULES = "app.workers.main, actors.campaigns, actors.periodic"
#: Shown when the memory bar is missed.
BIGGEST_IMPORTS = 25


def make_parser() -> argparse.ArgumentParser:
    parser = common.make_parser("idle", __doc__.splitlines()[0], "--database sqlite --rest 5", 3)
    parser.add_argument("--rest", type=float, default=10, help="seconds of rest before measuring (default 10)")
    parser.add_argument("--seconds", type=float, default=10, help="seconds over which commands are counted")
    parser.add_argument("--imports", action="store_true", help="print the slowest imports even if the bar is met")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    figures: list[Figure] = []
    for database in common.databases(args.database):
        with common.place(database) as place:
            figures += measure(place, args)
            if args.imports or not figures[-1].met:
                print_imports(place)
    return table.show(figures, args.json)


def measure(place: Place, args: argparse.Namespace) -> list[Figure]:
    """The memory last: it is the one with a bar."""
    memory: list[float] = []
    redis_rate: list[float] = []
    statements: list[float] = []
    client: Any = redis.Redis.from_url(place.settings.redis_url)
    for _ in range(args.rounds):
        with common.worker(place, threads=THREADS) as process:
            time.sleep(args.rest)
            calls, questions = commands(client), statements_so_far(place)
            time.sleep(args.seconds)
            # Its own INFO and SHOW STATUS are no work of the worker's.
            redis_rate.append((commands(client) - calls - 1) / args.seconds)
            statements.append((statements_so_far(place) - questions - 1) / args.seconds)
            memory.append(pss_mb(process.pid))
    what = f"{place.database}, {THREADS} threads"
    figures = [table.figure(f"{what}: Redis commands", redis_rate, unit="/s", bar=None, details=top(client))]
    if place.database == "mysql":
        figures.append(table.figure(f"{what}: database statements", statements, unit="/s", bar=None))
    figures.append(table.figure(f"{what}: PSS", memory, unit=" MB", bar=MEMORY_BAR_MB, at_most=True))
    return figures


def pss_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return round(int(line.split()[1]) / 1000, 1)
    raise RuntimeError(f"no Pss of process {pid}")


def commands(client: Any) -> int:
    """Commands that Redis has run so far; those inside its scripts count too."""
    return sum(int(stat["calls"]) for stat in client.info("commandstats").values())


def top(client: Any) -> str:
    """The commands run most often since Redis started."""
    stats = sorted(client.info("commandstats").items(), key=lambda item: -int(item[1]["calls"]))
    return ", ".join(f"{name.removeprefix('cmdstat_')} {stat['calls']}" for name, stat in stats[:5])


def statements_so_far(place: Place) -> int:
    """Statements the server has been sent so far; SQLite does not count them."""
    if place.database == "sqlite":
        return 0
    found = place.db.row("SHOW GLOBAL STATUS LIKE 'Questions'")
    assert found is not None
    return int(found[1])


def print_imports(place: Place) -> None:
    """The imports of a worker that hold most memory, and those that take longest."""
    script = f"import tracemalloc; tracemalloc.start(); import {MODULES}; print(*tracemalloc.get_traced_memory())"
    with ExitStack() as stack:
        stack.callback(sys.stdout.flush)
        out = subprocess.run(
            [sys.executable, "-X", "importtime", "-c", script],
            cwd=ROOT, env={**os.environ, **place.environ}, capture_output=True, text=True, check=True,
        )  # fmt: skip
    lines = [line.removeprefix("import time:").split("|") for line in out.stderr.splitlines() if "|" in line]
    timed = [(int(own), int(total), name.strip()) for own, total, name in lines if own.strip().isdigit()]
    common.tell(f"Python objects after the imports: {int(out.stdout.split()[0]) / 1e6:.1f} MB")
    common.tell("slowest imports (ms of its own, ms with what it imports):")
    for own, total, name in sorted(timed, key=lambda item: -item[1])[:BIGGEST_IMPORTS]:
        common.tell(f"  {own / 1000:7.1f} {total / 1000:8.1f}  {name}")


if __name__ == "__main__":
    sys.exit(main())

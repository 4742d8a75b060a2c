"""How late runs begin: ten thousand at once, and real workers with more work than they can do."""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack
from statistics import median, quantiles

from app.queues.broker import redis_client
from app.queues.workers import live_workers
from app.schedules.dispatch import QUEUE
from bench import common, table
from bench.common import Place
from bench.schedules.crowd import ended, make_due
from bench.schedules.ticks import tick
from bench.table import Figure


def lag(place: Place, args: argparse.Namespace) -> list[Figure]:
    """Real workers run them all, with no target to check: what dispatching and recording cost by themselves."""
    due = make_due(place, args.users)
    with ExitStack() as stack:
        for number in range(args.workers):
            stack.enter_context(common.worker(place, threads=2, name=f"monitor_{number:02}", queue=QUEUE))
        common.wait(lambda: len(live_workers(redis_client(place.settings.redis_url))) == args.workers, 60, "no worker")
        began = time.monotonic()
        tick(place)
        common.wait(lambda: ended(place) >= due, 600, "not all have run", 0.2)
        seconds = time.monotonic() - began
    lags = [int(late) / 1000 for (late,) in place.db.rows("SELECT started_at - period FROM schedule_runs")]
    p99 = quantiles(lags, n=100)[98]
    details = f"{due / seconds:,.0f} runs/s with {args.workers} workers of 2 threads; p50 {median(lags):.1f} s"
    what = f"{place.database}: lag of {due:,} without targets, p99"
    return [table.figure(what, [p99], unit=" s", bar=None, details=details)]

"""How fast the users who are due are claimed and enqueued, beside one bulk UPDATE, and how late their runs begin.

100,000 users with intervals of 1 to 60 minutes, of which a tenth is due. Ours is the minute tick: `dispatch` with a
real Redis, in a process of its own. The baseline claims the same users with a single UPDATE and enqueues nobody.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from statistics import median, quantiles

from app.config import ROOT, settings
from app.models.tables import open_database
from app.queues import keys
from app.queues.broker import redis_client
from app.queues.workers import live_workers
from app.schedules.claims import CLAIMABLE, advance
from app.schedules.dispatch import QUEUE, dispatch, put_claims
from app.schedules.times import MINUTE
from bench import common, table
from bench.common import Place
from bench.expansion import peak_mb
from bench.schedules.long_queue import LongQueue, Result
from bench.table import Figure

USERS, LONGEST_MINUTES, DUE = 100_000, 60, 10
TICK_BAR_S, RATIO_BAR, MEMORY_BAR_MB, GROWTH_BAR_MB = 10.0, 0.5, 100.0, 15.0
DISPATCHERS, HOURS = 4, 6


def make_parser() -> argparse.ArgumentParser:
    parser = common.make_parser("schedules", __doc__.splitlines()[0], "--database sqlite --long-queue", 3)
    parser.add_argument("--users", type=int, default=USERS, help=f"how many (default {USERS}), a tenth of them due")
    parser.add_argument("--workers", type=int, default=2, help="for the lag: workers of 2 threads (default 2)")
    parser.add_argument(
        "--long-queue", action="store_true", help="instead: 50 users with 4 minutes of work each, in virtual time"
    )
    parser.add_argument("--tick", action="store_true", help=argparse.SUPPRESS)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    if args.tick:
        return tick_here()
    figures: list[Figure] = []
    for database in common.databases(args.database):
        with common.place(database) as place:
            if args.long_queue:
                figures += long_queue(place)
                continue
            fill(place, args.users)
            figures += claiming(place, args)
            figures += ticking(place, args)
            figures += together(place, args)
            figures += lag(place, args)
    return table.show(figures, args.json)


# -- users ---------------------------------------------------------------------------------------


def fill(place: Place, users: int) -> None:
    started = time.monotonic()
    rows = [(i, f"u{i}@example.test", f"u{i}@example.test", 1) for i in range(1, users + 1)]
    place.db.run_many("INSERT INTO users (id, email, email_key, created_at)", rows, chunk=1000)
    common.tell(f"{place.database}: {users:,} users in {time.monotonic() - started:.0f} s")


def make_due(place: Place, users: int, every: int = DUE) -> int:
    """Give everybody a schedule anew, every n-th one due within the last minute; how many are due."""
    db, chance, now = place.db, random.Random(5), place.db.now_ms()
    for name in ("user_monitor_schedules", "schedule_runs"):
        db.run(f"TRUNCATE TABLE {name}" if place.database == "mysql" else f"DELETE FROM {name}")
    rows = []
    for user in range(1, users + 1):
        interval = chance.randint(1, LONGEST_MINUTES) * MINUTE
        away = -chance.randint(0, MINUTE - 1) if user % every == 0 else MINUTE + chance.randint(0, interval)
        rows.append((user, interval // MINUTE, now + away, now + away - interval))
    # Those who are due much later must not look as if the clock had gone back.
    rows = [(user, minutes, due, min(phase, now)) for user, minutes, due, phase in rows]
    db.run_many(
        "INSERT INTO user_monitor_schedules (user_id, interval_minutes, next_run_at, phase_at)", rows, chunk=1000
    )
    redis_client(place.settings.redis_url).flushdb()
    if place.database == "sqlite":
        db.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    else:
        db.rows("ANALYZE TABLE user_monitor_schedules")
    return users // every


# -- figures -------------------------------------------------------------------------------------


def claiming(place: Place, args: argparse.Namespace) -> list[Figure]:
    """Users claimed a second, beside one UPDATE that claims them all."""
    ours: list[float] = []
    single: list[float] = []
    for number in range(args.rounds):
        for mine in (True, False) if number % 2 == 0 else (False, True):
            due = make_due(place, args.users)
            speed = due / (claim_by_rounds(place, due) if mine else claim_in_bulk(place, due))
            (ours if mine else single).append(speed)
        common.tell(f"{place.database} round {number + 1}: ours {ours[-1]:,.0f}/s, one UPDATE {single[-1]:,.0f}/s")
    what = f"{place.database}: claiming / one UPDATE"
    return [table.ratio(what, ours, single, bar=RATIO_BAR, baseline="one UPDATE")]


def claim_by_rounds(place: Place, due: int) -> float:
    """Seconds of a whole round into a queue that costs nothing."""
    started = time.perf_counter()
    done = dispatch(place.db, place.settings, lambda *_: 0, place.db.now_ms())
    assert done.claimed == due, done
    return time.perf_counter() - started


def claim_in_bulk(place: Place, due: int) -> float:
    now = place.db.now_ms()
    started = time.perf_counter()
    count = place.db.run(
        "UPDATE user_monitor_schedules SET locked_by = ?, locked_until = ?, period = next_run_at, "
        f"started_period = NULLIF(started_period, next_run_at), {advance(place.db)} WHERE {CLAIMABLE}",
        "t" * 32, now + 900_000, now, now, now, now, now,
    )  # fmt: skip
    assert count == due, count
    return time.perf_counter() - started


def tick_here() -> int:
    """One tick as the worker of `periodic` makes it; what it did, as JSON on stdout."""
    __import__("app.workers.main")
    __import__("actors.periodic")
    db, found = open_database(settings()), settings()
    put = put_claims(redis_client(found.redis_url))
    print("ready", flush=True)
    sys.stdin.readline()
    started = time.perf_counter()
    done = dispatch(db, found, put, db.now_ms())
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "claimed": done.claimed, "errors": done.errors, "peak_mb": peak_mb()}))
    return 0


class Ticking:
    """A process that has loaded everything and waits for the word."""

    def __init__(self, place: Place) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.schedules", "--tick"], cwd=ROOT, env=place.environ, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stdout
        assert self._process.stdout.readline() == "ready\n"

    def go(self) -> None:
        assert self._process.stdin
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def said(self) -> dict[str, float]:
        out, _ = self._process.communicate()
        found: dict[str, float] = json.loads(out)
        assert not found["errors"], found
        return found


def tick(place: Place) -> dict[str, float]:
    one = Ticking(place)
    one.go()
    return one.said()


def ticking(place: Place, args: argparse.Namespace) -> list[Figure]:
    """A tick with Redis: seconds and memory, and how much more memory ten times as many take."""
    seconds, memory, growth = [], [], []
    for _ in range(args.rounds):
        due = make_due(place, args.users)
        said = tick(place)
        assert said["claimed"] == due == waiting(place), said
        make_due(place, args.users, every=1)
        everybody = tick(place)
        seconds.append(said["seconds"])
        memory.append(said["peak_mb"])
        growth.append(everybody["peak_mb"] - said["peak_mb"])
        common.tell(
            f"{place.database}: {due:,} due {said['seconds']:.2f} s, {said['peak_mb']:.0f} MB; "
            f"all {args.users:,} due {everybody['seconds']:.1f} s, {everybody['peak_mb']:.0f} MB"
        )
    what = f"{place.database}: tick, {args.users // DUE:,} due"
    return [
        table.figure(what, seconds, unit=" s", bar=TICK_BAR_S, at_most=True),
        table.figure(f"{what}, peak RSS", memory, unit=" MB", bar=MEMORY_BAR_MB, at_most=True),
        table.figure(
            f"{place.database}: more memory, all due", growth, unit=" MB", bar=GROWTH_BAR_MB, at_most=True
        ),
    ]  # fmt: skip


def together(place: Place, args: argparse.Namespace) -> list[Figure]:
    """Several dispatchers at once: how long until nobody is due, and who was claimed more than once."""
    wrong, seconds, shares = [], [], ""
    for _ in range(args.rounds):
        due = make_due(place, args.users)
        processes = [Ticking(place) for _ in range(DISPATCHERS)]
        for one in processes:
            one.go()
        said = [one.said() for one in processes]
        claimed = sum(int(one["claimed"]) for one in said)
        messages = waiting(place)
        locked = int(place.db.value("SELECT COUNT(*) FROM user_monitor_schedules WHERE locked_by IS NOT NULL"))
        wrong.append(float(abs(claimed - due) + abs(messages - due) + abs(locked - due)))
        seconds.append(max(one["seconds"] for one in said))
        shares = ", ".join(f"{int(one['claimed']):,}" for one in said)
    what = f"{place.database}: {DISPATCHERS} dispatchers"
    return [
        table.figure(f"{what}, claimed twice or never", wrong, bar=0, at_most=True, details=f"shares {shares}"),
        table.figure(what, seconds, unit=" s", bar=TICK_BAR_S, at_most=True),
    ]


def waiting(place: Place) -> int:
    """Different users who wait in Redis."""
    client = redis_client(place.settings.redis_url)
    held = client.hvals(keys.messages(QUEUE))
    assert len(held) == client.llen(keys.waiting(QUEUE))
    return len({json.loads(raw)["args"][0] for raw in held})


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


def ended(place: Place) -> int:
    return int(place.db.value("SELECT COUNT(*) FROM schedule_runs"))


# -- the long queue ------------------------------------------------------------------------------

FLEETS = (("1 worker of 2", 1, 2), ("1 worker of 4", 1, 4), ("2 workers of 2", 2, 2), ("manager, workers of 2", 0, 2))


def long_queue(place: Place) -> list[Figure]:
    """What becomes of the lag when there is more work than workers, and that nobody is doubled or starved."""
    figures = []
    for name, workers, threads in FLEETS:
        found = LongQueue(place.db, place.settings, name, workers, threads).run(HOURS)
        figures += described(place.database, found)
        for reason in found.reasons:
            common.tell(f"{place.database}, {name}: {reason}")
    return figures


def described(database: str, found: Result) -> list[Figure]:
    what = f"{database}: {found.name}"
    counts = found.runs.values()
    details = (
        f"lag p50 {found.lag(50):.0f} min, p99 {found.lag(99):.0f} min; runs of a user {min(counts)}–{max(counts)}; "
        f"{found.skipped:,} periods skipped; {found.most_waiting} waited at most; {found.looked_for} times a claim "
        f"outlived its lock; workers {found.workers[0]}–{max(found.workers)}"
    )
    return [
        table.figure(f"{what}, runs in {HOURS} h", [float(len(found.lags))], bar=None, details=details),
        table.figure(
            f"{what}, doubled or starved", [float(found.doubled + found.at_once + found.starved)], bar=0, at_most=True
        ),
    ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())

"""A tick beside one bulk UPDATE: claiming, with a real Redis, several at once, with ten thousand waiting already."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time

from app.config import ROOT, settings
from app.models.tables import open_database
from app.queues.broker import redis_client
from app.schedules.claims import CLAIMABLE, advance
from app.schedules.dispatch import dispatch, put_claims
from app.schedules.sweep import LOOK_MS
from bench import common, table
from bench.common import Place
from bench.expansion import peak_mb
from bench.schedules.crowd import DUE, make_due, waiting
from bench.table import Figure

TICK_BAR_S, RATIO_BAR, MEMORY_BAR_MB, GROWTH_BAR_MB = 10.0, 0.5, 100.0, 15.0
DISPATCHERS = 4


def claiming(place: Place, args: argparse.Namespace) -> list[Figure]:
    """Users claimed a second, beside one UPDATE that claims them all. Twice the rounds, for a disk is never alone."""
    ours: list[float] = []
    single: list[float] = []
    for number in range(2 * args.rounds + 1):
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


def looking(place: Place, args: argparse.Namespace) -> list[Figure]:
    """A tick that finds nobody due and everybody of the last one still waiting."""
    seconds = []
    for _ in range(args.rounds):
        due = make_due(place, args.users)
        put = put_claims(redis_client(place.settings.redis_url))
        now = place.db.now_ms()
        assert dispatch(place.db, place.settings, put, now).claimed == due
        started = time.perf_counter()
        done = dispatch(place.db, place.settings, put, now + LOOK_MS + 1)
        seconds.append(time.perf_counter() - started)
        assert (done.claimed, done.swept.put_back, waiting(place)) == (0, 0, due), done
    what = f"{place.database}: tick, {args.users // DUE:,} wait"
    return [table.figure(what, seconds, unit=" s", bar=TICK_BAR_S, at_most=True)]

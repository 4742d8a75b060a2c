"""How fast a campaign's lists become recipients and batches, beside one giant statement.

A million different people on ten lists of 120,000, of which each shares 20,000 with the next. Ours
is the Expander's loop, 5000 members a transaction, in a process of its own with all that a worker
imports. The baseline is a single INSERT … SELECT of everybody, with the batches, in one transaction.
Rows/s are recipients by seconds on both sides; both find empty tables.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from app.campaigns.expansion import LEASE_MS, Expander
from app.config import ROOT, settings
from app.models.tables import open_database
from bench import common, table
from bench.common import Place
from bench.table import Figure

PEOPLE, LISTS, PER_LIST = 1_000_000, 10, 120_000
RATIO_BAR, MEMORY_BAR_MB = 0.8, 100.0


def make_parser() -> argparse.ArgumentParser:
    parser = common.make_parser("expansion", __doc__.splitlines()[0], "--database sqlite --kill", 3)
    parser.add_argument("--people", type=int, default=PEOPLE, help=f"different people (default {PEOPLE})")
    parser.add_argument(
        "--layout", choices=("ranges", "scattered"), default="ranges",
        help="whom a list shares with the next: its first members (default) or every fifth of them",
    )  # fmt: skip
    parser.add_argument("--kill", action="store_true", help="instead: SIGKILL in the middle, again and again; count")
    parser.add_argument("--kills", type=int, default=5, help="how often, with --kill (default 5)")
    parser.add_argument("--expand", nargs=2, type=int, metavar=("ID", "LATER"), help=argparse.SUPPRESS)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    if args.expand:
        return expand_here(*args.expand)
    figures: list[Figure] = []
    for database in common.databases(args.database):
        with common.place(database) as place:
            names = populate(place, args.people, args.layout)
            figures += kill(place, names, args) if args.kill else measure(place, names, args)
    return table.show(figures, args.json)


def populate(place: Place, people: int, layout: str) -> list[str]:
    """The lists' names. A sixth of each list's members are in the next list too."""
    started = time.monotonic()
    common.add_sink_server(place.db, 2525)
    common.add_people(place.db, people)
    names = [f"list {i}" for i in range(LISTS)]
    own, shared = people // LISTS, people * (PER_LIST - PEOPLE // LISTS) // PEOPLE
    for i, name in enumerate(names):
        list_id = common.add_list(place.db, name, 1 + i * own, own, people)
        step = own // shared if layout == "scattered" else 1
        common.add_members(place.db, list_id, 1 + (i + 1) * own, shared, people, step)
    if place.database == "mysql":
        place.db.rows("ANALYZE TABLE memberships, subscribers")
    common.tell(
        f"{place.database}: {people:,} people on {LISTS} lists, {layout}, in {time.monotonic() - started:.0f} s"
    )
    return names


def measure(place: Place, names: Sequence[str], args: argparse.Namespace) -> list[Figure]:
    ours: list[float] = []
    memory: list[float] = []
    single: list[float] = []
    # The files grow at the first filling, whoever does it.
    giant_statement(place, names)
    for number in range(args.rounds):
        # By turns first and second: the second may find the disk busy with the first's pages.
        for mine in (True, False) if number % 2 == 0 else (False, True):
            if mine:
                said = expander(place, empty_campaign(place, names))
                ours.append(args.people / float(said["seconds"]))
                memory.append(float(said["peak_mb"]))
            else:
                single.append(args.people / giant_statement(place, names))
        common.tell(
            f"{place.database} round {number + 1}: ours {ours[-1]:,.0f}/s, {memory[-1]:.0f} MB; "
            f"one statement {single[-1]:,.0f}/s"
        )
    what = f"{place.database}, {args.layout}: expansion"
    return [
        table.ratio(f"{what} / one statement", ours, single, bar=RATIO_BAR, baseline="one statement"),
        table.figure(f"{what}, peak RSS", memory, unit=" MB", bar=MEMORY_BAR_MB, at_most=True),
    ]


def empty_campaign(place: Place, names: Sequence[str]) -> int:
    """A campaign begun, with no other campaign's recipients in the tables; its id."""
    for name in ("recipients", "batches"):
        place.db.run(f"TRUNCATE TABLE {name}" if place.database == "mysql" else f"DELETE FROM {name}")
    if place.database == "sqlite":
        place.db.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    return common.start_campaign(place.db, names)


def giant_statement(place: Place, names: Sequence[str]) -> float:
    """Seconds that one INSERT … SELECT takes for the same recipients, with the same batches."""
    db, size = place.db, place.settings.send_batch_size
    campaign_id = empty_campaign(place, names)
    started = time.perf_counter()
    with db.transaction():
        made = db.run(
            "INSERT INTO recipients (campaign_id, subscriber_id, batch, state) "
            f"SELECT ?, subscriber_id, 1 + (ROW_NUMBER() OVER (ORDER BY subscriber_id) - 1) {db.div} ?, 'pending' "
            "FROM (SELECT DISTINCT subscriber_id FROM memberships WHERE status = 'active' AND list_id IN "
            "(SELECT list_id FROM campaign_lists WHERE campaign_id = ?)) AS everybody",
            campaign_id, size, campaign_id,
        )  # fmt: skip
        db.run(
            "INSERT INTO batches (campaign_id, number, state, ready_at, pending) "
            f"SELECT ?, n, 'ready', 1, CASE WHEN n * {size} > {made} THEN {made % size} ELSE {size} END "
            f"FROM ({common.numbers(-(-made // size))}) AS given",
            campaign_id,
        )  # fmt: skip
    return time.perf_counter() - started


def expander(place: Place, campaign_id: int) -> dict[str, float]:
    """Expand in a process of its own; what it says of itself."""
    done = subprocess.run(command(campaign_id, 0), cwd=ROOT, env=place.environ, check=True, capture_output=True)
    said: dict[str, float] = json.loads(done.stdout)
    return said


def command(campaign_id: int, later: int) -> list[str]:
    return [sys.executable, "-m", "bench.expansion", "--expand", str(campaign_id), str(later)]


def expand_here(campaign_id: int, later: int) -> int:
    """Expand as a worker does, `later` ms in the future; seconds and peak memory as JSON on stdout."""
    # What a worker holds in memory besides.
    __import__("app.workers.main")
    __import__("actors.campaigns")
    db, found = open_database(settings()), settings()
    sizes = {"batch_size": found.expand_batch_size, "send_batch_size": found.send_batch_size}
    expander = Expander(db, campaign_id, **sizes)
    if not expander.claim(db.now_ms() + later):
        print(f"campaign {campaign_id} is not to be had", file=sys.stderr)
        return 1
    started, steps = time.perf_counter(), 0
    while not expander.step(db.now_ms() + later).all_done:
        steps += 1
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "steps": steps, "peak_mb": peak_mb()}))
    return 0


def peak_mb() -> float:
    """The most memory this process ever held, in MB. Not getrusage: its figure includes the parent's before exec."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return round(int(line.split()[1]) / 1000, 1)
    raise RuntimeError("no VmHWM")


def kill(place: Place, names: Sequence[str], args: argparse.Namespace) -> list[Figure]:
    """Kill the expander `--kills` times at moments spread over its work, finish, and count."""
    campaign_id, db = empty_campaign(place, names), place.db
    for number in range(args.kills):
        until = int(args.people * (number + random.random()) / (args.kills + 1))
        kill_one(place, campaign_id, number * 2 * LEASE_MS, until)
        common.tell(f"{place.database}: killed at {reached(place, campaign_id):,} recipients")
    subprocess.run(
        command(campaign_id, args.kills * 2 * LEASE_MS), cwd=ROOT, env=place.environ, check=True, capture_output=True
    )
    counts = {
        "recipients": db.value("SELECT COUNT(*) FROM recipients WHERE campaign_id = ?", campaign_id),
        "different people": db.value(
            "SELECT COUNT(DISTINCT subscriber_id) FROM recipients WHERE campaign_id = ?", campaign_id
        ),
        "the batches' counters": db.value("SELECT SUM(pending) FROM batches WHERE campaign_id = ?", campaign_id),
        "the expansion's counter": reached(place, campaign_id),
        "the lists' counters": db.value("SELECT SUM(created) FROM campaign_lists WHERE campaign_id = ?", campaign_id),
    }
    wrong = db.value(
        "SELECT COUNT(*) FROM batches b LEFT JOIN (SELECT batch, COUNT(*) AS held FROM recipients "
        "WHERE campaign_id = ? GROUP BY batch) r ON r.batch = b.number "
        "WHERE b.campaign_id = ? AND (r.held IS NULL OR r.held <> b.pending)",
        campaign_id, campaign_id,
    )  # fmt: skip
    off = max(abs(int(count) - args.people) for count in counts.values()) + int(wrong)
    details = ", ".join(f"{name} {int(count):,}" for name, count in counts.items()) + f", wrong batches {wrong}"
    what = f"{place.database}: {args.kills} kills, off by"
    return [table.figure(what, [float(off)], bar=0, at_most=True, details=details)]


def kill_one(place: Place, campaign_id: int, later: int, until: int) -> None:
    """Start an expander and kill it a few steps, at whatever instant, after it made `until` recipients."""
    with subprocess.Popen(command(campaign_id, later), cwd=ROOT, env=place.environ) as process:
        common.wait(lambda: reached(place, campaign_id) >= until or process.poll() is not None, 120, "stuck", 0.002)
        time.sleep(random.random() * 0.03)
        process.kill()


def reached(place: Place, campaign_id: int) -> int:
    return int(place.db.value("SELECT recipients FROM expansions WHERE campaign_id = ?", campaign_id))


if __name__ == "__main__":
    sys.exit(main())

"""How many mails one worker process sends a second, beside the limit of the machine and the obvious program.

Ours is the whole way: lease, journal, compose, send, outcomes in the database, by a real worker
process. Its time runs from the first mail's answer to the commit of the last batch; its start and
the expansion come before. `smtp-source` sends the same number of bytes again and again, composing
nothing and recording nothing. The obvious program is bench.obvious, run by Dramatiq's own worker.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import dramatiq
import redis

from app.config import ROOT
from bench import common, profiling, table
from bench.common import Place
from bench.compose import people, with_ours
from bench.table import Figure

#: Connections of the one process, and how much of smtp-source's speed it must reach with them.
BARS = {1: 1.0, 4: 0.4}
OBVIOUS_BAR = 10.0
OBVIOUS_MAILS = 1000
LIST = "everybody"


def make_parser() -> argparse.ArgumentParser:
    parser = common.make_parser("sending", __doc__.splitlines()[0], "--database sqlite --mails 20000", 3)
    parser.add_argument("--mails", type=int, default=20_000, help="mails of each repetition (default 20000)")
    parser.add_argument("--profile", action="store_true", help="instead: where the time goes, in this process")
    parser.add_argument("--skip-obvious", action="store_true", help="leave out the obvious program, which is slow")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    figures: list[Figure] = []
    for database in common.databases(args.database):
        with common.place(database) as place, common.smtp_sink() as port:
            common.add_sink_server(place.db, port)
            common.add_people(place.db, args.mails)
            common.add_list(place.db, LIST, 1, args.mails, args.mails)
            if args.profile:
                profile(place)
            else:
                figures += measure(place, port, args)
    return table.show(figures, args.json) if figures else 0


def measure(place: Place, port: int, args: argparse.Namespace) -> list[Figure]:
    """All ways take turns; the same number of mails by each, fewer by the obvious program."""
    ours: dict[int, list[float]] = {connections: [] for connections in BARS}
    cpu: dict[int, list[float]] = {connections: [] for connections in BARS}
    source: dict[int, list[float]] = {connections: [] for connections in BARS}
    obvious: list[float] = []
    for number in range(args.rounds):
        for connections in BARS:
            rate, cpu_us = our_rate(place, connections, args.mails)
            ours[connections].append(rate)
            cpu[connections].append(cpu_us)
            source[connections].append(source_rate(port, connections, args.mails))
        if not args.skip_obvious:
            obvious.append(obvious_rate(place, port))
        common.tell(
            f"{place.database} round {number + 1}: "
            + ", ".join(f"{c} connection(s) {ours[c][-1]:,.0f}/s, smtp-source {source[c][-1]:,.0f}/s" for c in BARS)
            + (f", obvious {obvious[-1]:,.0f}/s" if obvious else "")
        )
    figures = [
        table.ratio(
            f"{place.database}, {connections} connection(s) / smtp-source -s {connections}",
            ours[connections], source[connections], bar=bar,
            baseline=f"CPU {table.spread(cpu[connections])} µs a mail, smtp-source",
        )
        for connections, bar in BARS.items()
    ]  # fmt: skip
    if obvious:
        what = f"{place.database}, 4 connections / the obvious program"
        figures.append(table.ratio(what, ours[4], obvious, bar=OBVIOUS_BAR, baseline="a message per mail"))
    return figures


def prepare(place: Place) -> int:
    """A campaign to everybody, expanded; its id."""
    campaign_id = common.start_campaign(place.db, [LIST])
    common.expand(place, campaign_id)
    return campaign_id


def our_rate(place: Place, connections: int, mails: int) -> tuple[float, float]:
    """(mails/s, µs of CPU a mail) of one worker process with so many threads."""
    campaign_id = prepare(place)
    with common.worker(place, threads=connections) as process:
        sending = place.db.value
        common.wait(
            lambda: sending("SELECT 1 FROM batches WHERE campaign_id = ? AND sent > 0 LIMIT 1", campaign_id),
            60, "the worker sends nothing", 0.01,
        )  # fmt: skip
        before = common.cpu_seconds(process.pid)
        had = int(sending("SELECT SUM(sent) FROM batches WHERE campaign_id = ?", campaign_id))
        common.wait(lambda: common.is_sent(place.db, campaign_id), 300, "the campaign does not end", 0.1)
        cpu = common.cpu_seconds(process.pid) - before
    return common.sending_rate(place.db, campaign_id, mails), cpu * 1e6 / (mails - had)


def mail_size() -> int:
    """Bytes of one of our mails."""
    return len(with_ours()(people(1)[0]))


def source_rate(port: int, connections: int, mails: int) -> float:
    """Mails a second of smtp-source over so many connections that stay open."""
    length = str(mail_size())
    command = [common.program("smtp-source"), "-d", "-s", str(connections), "-m", str(mails), "-l", length]
    started = time.perf_counter()
    subprocess.run(
        [*command, "-f", "hall@example.org", "-t", "person@example.org", f"127.0.0.1:{port}"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return mails / (time.perf_counter() - started)


def obvious_rate(place: Place, port: int) -> float:
    """Mails a second of Dramatiq's own worker, one process of four threads, a message per recipient."""
    client: Any = redis.Redis.from_url(place.settings.redis_url)
    environ = {**place.environ, "SINK_PORT": str(port)}
    enqueue_obvious(place)
    pending = "dramatiq:obvious.msgs"
    command = [sys.executable, "-m", "dramatiq", "bench.obvious", "--processes", "1", "--threads", "4"]
    with ExitStack() as stack:
        log = stack.enter_context((place.directory / "obvious.log").open("ab"))
        stack.enter_context(common.running(command, env=environ, cwd=ROOT, stdout=log, stderr=log))
        common.wait(lambda: client.hlen(pending) < OBVIOUS_MAILS, 60, "the obvious program sends nothing", 0.01)
        started, had = time.perf_counter(), int(client.hlen(pending))
        common.wait(lambda: client.hlen(pending) == 0, 120, "the obvious program does not end", 0.01)
        return had / (time.perf_counter() - started)


def enqueue_obvious(place: Place) -> None:
    from dramatiq.brokers.redis import RedisBroker

    broker: Any = RedisBroker(client=redis.Redis.from_url(place.settings.redis_url))  # type: ignore[no-untyped-call]
    for i in range(1, OBVIOUS_MAILS + 1):
        fields = {"city": "Zürich", "seat": f"A{i % 97}", "code": str(i * 7919), "team": "hall & stage"}
        broker.enqueue(
            dramatiq.Message(
                queue_name="obvious",
                actor_name="send_mail",
                args=(f"Ada Lövelace {i}", f"person{i}@example.org", fields),
                kwargs={},
                options={},
            )
        )
    broker.close()


def profile(place: Place) -> None:
    """Where the time goes, without the worker process round it."""
    for threads in BARS:
        prepare(place)
        profiling.by_statement(place, threads)
    prepare(place)
    profiling.by_function(place)


if __name__ == "__main__":
    sys.exit(main())

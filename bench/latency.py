"""Mails a second over one connection to a server far away, beside smtplib's `sendmail` on an open connection.

A proxy adds 25 ms in each direction between worker and `smtp-sink`. smtplib waits for four replies
a mail, and its mails are composed before the clock starts; ours carry the next mail's envelope
with the content, and come from a real worker process.
"""

from __future__ import annotations

import argparse
import smtplib
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from app.config import ROOT
from bench import common, table
from bench.common import Place
from bench.compose import people, with_ours
from bench.table import Figure

BAR = 3.5
LIST = "everybody"


def make_parser() -> argparse.ArgumentParser:
    parser = common.make_parser("latency", __doc__.splitlines()[0], "--database sqlite --mails 100", 3)
    parser.add_argument("--mails", type=int, default=200, help="mails of each repetition (default 200)")
    parser.add_argument("--round-trip", type=float, default=50, help="ms that the proxy adds (default 50)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    figures: list[Figure] = []
    for database in common.databases(args.database):
        with common.place(database) as place, common.smtp_sink() as sink, far(sink, args.round_trip) as port:
            common.add_sink_server(place.db, port)
            common.add_people(place.db, args.mails)
            common.add_list(place.db, LIST, 1, args.mails, args.mails)
            figures.append(measure(place, port, args))
    return table.show(figures, args.json)


@contextmanager
def far(target: int, round_trip: float) -> Iterator[int]:
    """A port that leads to `target` with so many ms more of round-trip time."""
    port = common.free_port()
    command = [sys.executable, "-m", "bench.proxy", str(port), str(target), str(round_trip / 2)]
    with common.running(command, cwd=ROOT):
        common.wait_for_port(port)
        yield port


def measure(place: Place, port: int, args: argparse.Namespace) -> Figure:
    ours: list[float] = []
    plain: list[float] = []
    for number in range(args.rounds):
        ours.append(our_rate(place, args.mails))
        rate, measured = plain_rate(port, max(20, args.mails // 4))
        plain.append(rate)
        common.tell(
            f"{place.database} round {number + 1}: ours {ours[-1]:.2f}/s, smtplib {rate:.2f}/s, "
            f"round trip {measured:.1f} ms"
        )
    pairs = [a / b for a, b in zip(ours, plain, strict=True)]
    details = f"ours {min(ours):.2f}–{max(ours):.2f}/s, smtplib {min(plain):.2f}–{max(plain):.2f}/s"
    what = f"{place.database}, 1 connection, {args.round_trip:g} ms / smtplib"
    return table.figure(what, pairs, unit="x", bar=BAR, details=details)


def our_rate(place: Place, mails: int) -> float:
    campaign_id = common.start_campaign(place.db, [LIST])
    common.expand(place, campaign_id)
    with common.worker(place, threads=1):
        common.wait(lambda: common.is_sent(place.db, campaign_id), 300, "the campaign does not end")
    return common.sending_rate(place.db, campaign_id, mails)


def plain_rate(port: int, mails: int) -> tuple[float, float]:
    """(mails/s of smtplib, ms that a round trip really takes)."""
    compose = with_ours()
    contents = [compose(person) for person in people(mails)]
    with smtplib.SMTP("127.0.0.1", port) as connection:
        connection.ehlo()
        asked = time.perf_counter()
        connection.noop()
        started = time.perf_counter()
        for number, content in enumerate(contents):
            connection.sendmail("hall@example.org", [f"person{number}@example.org"], content)
        ended = time.perf_counter()
    return mails / (ended - started), (started - asked) * 1000


if __name__ == "__main__":
    sys.exit(main())

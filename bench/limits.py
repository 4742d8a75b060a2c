"""What the limits cost a mail, beside sending it, and how soon a campaign is out under them.

The cost is the time in which a sender asks for tokens, takes them, looks at them and gives back what is left, in
blocks as large as those of a worker with one connection, whose sending in the same minute is the measure. With
--sending both are a real worker's: its speed with limits (and a rule for the domain) to that without. How soon a
campaign is out is replayed on a virtual clock (bench.pacing), beside GCRA with a burst of 2 % of the limit.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from statistics import median

from app.mail.gate import Gate
from app.mail.limits import Block, Limits, load_rules
from app.mail.limits.domains import set_rule, unset_rule
from app.mail.ration import Ration, bounded, stale
from app.mail.servers import Usable
from app.queues.broker import redis_client
from bench import common, pacing, sending, table
from bench.common import Place
from bench.table import Figure

#: Of the time that a mail takes.
BAR = 0.03
HUGE = 10**9
BATCH = 100
KINDS: dict[str, Limits] = {
    "a second": Limits(per_second=HUGE),
    "a minute": Limits(per_minute=HUGE),
    "a second, minute, hour and day": Limits(HUGE, HUGE, HUGE, HUGE),
}
A_DOMAIN = "a minute, and a domain's hour"
DOMAIN = "example.org"


def make_parser() -> argparse.ArgumentParser:
    parser = common.make_parser("limits", __doc__.splitlines()[0], "--database sqlite --rounds 3", 3)
    parser.add_argument("--mails", type=int, default=20_000, help="mails of each repetition (default 20000)")
    parser.add_argument("--sending", action="store_true", help="also: a worker's speed with limits to that without")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    figures: list[Figure] = []
    for database in common.databases(args.database):
        with common.place(database) as place, common.smtp_sink() as port:
            server_id = common.add_sink_server(place.db, port)
            common.add_people(place.db, args.mails)
            common.add_list(place.db, sending.LIST, 1, args.mails, args.mails)
            figures += cost(place, server_id, args)
            if args.sending:
                figures += in_sending(place, server_id, args)
            replay = pacing.replayed(redis_client(place.settings.redis_url))
    figures += replay
    return table.show(figures, args.json)


# -- the cost ------------------------------------------------------------------------------------


def cost(place: Place, server_id: int, args: argparse.Namespace) -> list[Figure]:
    """The share of a mail's time that each kind of limit takes."""
    shares: dict[str, list[float]] = {kind: [] for kind in [*KINDS, A_DOMAIN]}
    costs: dict[str, list[float]] = {kind: [] for kind in shares}
    for number in range(args.rounds):
        limit(place, server_id, Limits())
        rate, _ = sending.our_rate(place, 1, args.mails)
        for kind in shares:
            limit(place, server_id, KINDS.get(kind, Limits(per_minute=HUGE)), domain=kind == A_DOMAIN)
            micros = a_mail(place, 1 / rate, args.mails // 4)
            costs[kind].append(micros)
            shares[kind].append(micros * rate / 1e6)
        common.tell(
            f"{place.database} round {number + 1}: {rate:,.0f} mails/s, "
            + ", ".join(f"limits of {kind} {cost[-1]:.2f} µs" for kind, cost in costs.items())
        )
    limit(place, server_id, Limits())
    return [
        table.figure(
            f"{place.database}, limits of {kind}: share of a mail's time", shares[kind],
            bar=BAR if kind in KINDS else None, at_most=True, details=f"µs a mail {median(costs[kind]):.2f}",
        )
        for kind in shares
    ]  # fmt: skip


def limit(place: Place, server_id: int, limits: Limits, *, domain: bool = False) -> None:
    """Give the server these limits and no others; `domain`: and the recipients' domain one that is never reached."""
    place.db.run(
        "UPDATE servers SET per_second = ?, per_minute = ?, per_hour = ?, per_day = ? WHERE id = ?",
        *(value for _, value in limits), server_id,
    )  # fmt: skip
    if domain:
        set_rule(place.db, DOMAIN, per_hour=HUGE, now=place.db.now_ms())
    elif load_rules(place.db):
        unset_rule(place.db, DOMAIN, now=place.db.now_ms())


def a_mail(place: Place, seconds_a_mail: float, mails: int) -> float:
    """µs a mail that a thread which sends at that pace spends on tokens."""
    campaign_id = common.start_campaign(place.db, [sending.LIST], "limits")
    emails = [f"person{number}@{DOMAIN}" for number in range(BATCH)]
    with closing(Gate(place.db, redis_client(place.settings.redis_url))) as gate:
        (server,) = gate.servers(campaign_id, "hall@example.org")
        # The first time a server is used, its tokens are counted, and its second is full.
        known = (server.id, server.name, server.limits)
        common.wait(lambda: isinstance(gate.limiter.reserve(*known, 1), Block), 20, "the server gives no token")
        # The median: in some of them another process has the processor.
        spent = median(batch(gate, server, emails, seconds_a_mail) for _ in range(mails // BATCH))
    place.db.run("UPDATE campaigns SET status = 'cancelled' WHERE id = ?", campaign_id)
    return spent * 1e6 / BATCH


def batch(gate: Gate, server: Usable, emails: Sequence[str], seconds_a_mail: float) -> float:
    """Seconds for the tokens of one batch."""
    began = time.perf_counter()
    block = gate.reserve(server, bounded(len(emails), server.limits, seconds_a_mail))
    assert isinstance(block, Block), block
    ration = Ration(gate, server, block, gate.rules(), emails, seconds_a_mail=seconds_a_mail, trial=False)
    for number, email in enumerate(emails):
        tokens = ration.in_hand(email) or ration.take(email, len(emails) - number)
        assert isinstance(tokens, tuple), tokens
        assert not stale(tokens) or ration.renew(tokens, len(emails) - number)
    ration.close()
    return time.perf_counter() - began


def in_sending(place: Place, server_id: int, args: argparse.Namespace) -> list[Figure]:
    """A worker's speed and CPU with limits that it never reaches, and without, taking turns."""
    every = KINDS["a second, minute, hour and day"]
    ways = {"without": (Limits(), False), "limits": (every, False), "limits and a domain's": (every, True)}
    rates: dict[str, list[float]] = {way: [] for way in ways}
    cpu: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(args.rounds):
        for way, (limits, domain) in ways.items():
            limit(place, server_id, limits, domain=domain)
            rate, micros = sending.our_rate(place, 1, args.mails)
            rates[way].append(rate)
            cpu[way].append(micros)
        told = ", ".join(f"{way} {rate[-1]:,.0f}/s" for way, rate in rates.items())
        common.tell(f"{place.database} sending {number + 1}: {told}")
    limit(place, server_id, Limits())
    return [
        table.ratio(
            f"{place.database}, a worker with {way} / without", rates[way], rates["without"], bar=None,
            baseline=f"CPU {table.spread(cpu[way])} to {table.spread(cpu['without'])} µs a mail, without",
        )
        for way in list(ways)[1:]
    ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())

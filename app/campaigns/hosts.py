"""Hosts with leases in hand, and what to do when a person knows that one of them is dead."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from app.campaigns.journal import host_name, name_parts
from app.campaigns.settling import all_unknown, leases_of, settle
from app.db import Db
from app.errors import NotFound, Refused
from app.events import warn
from app.models.states import BatchState

#: Leases settled at a time; more are asked for until none is left.
CHUNK = 200


@dataclass(frozen=True)
class HostLeases:
    """What a host has in hand. `lease_until`: in ms, when the last of its leases runs out or ran out."""

    host: str
    leases: int
    mails: int
    lease_until: int


def hosts_at_work(db: Db) -> list[HostLeases]:
    """Every host that has leased something, by name."""
    rows = db.rows(
        "SELECT journal, COUNT(*), SUM(pending), MAX(lease_until) FROM batches WHERE state = ? GROUP BY journal",
        BatchState.LEASED,
    )
    found: dict[str, HostLeases] = {}
    for journal, leases, mails, until in rows:
        host = name_parts(str(journal)).host
        so_far = found.get(host, HostLeases(host, 0, 0, 0))
        found[host] = HostLeases(
            host, so_far.leases + int(leases), so_far.mails + int(mails), max(so_far.lease_until, int(until))
        )
    return [found[host] for host in sorted(found)]


def settle_dead_host(db: Db, host: str, now: int) -> int:
    """Make every mail that a dead host has in hand `unknown`, because a person says that it is dead; how many.

    Raises NotFound when it has nothing in hand, Refused for this very host, whose own sweep knows
    better, and for one that has renewed a lease lately, for that one lives.
    """
    there = {one.host: one for one in hosts_at_work(db)}
    if host not in there:
        names = ", ".join(there) or "none"
        raise NotFound(f"no host {host!r} has anything in hand; those that have: {names}")
    if host == host_name():
        raise Refused(f"{host} is this host: what its dead workers had in hand is settled by itself")
    if there[host].lease_until >= now:
        wait = (there[host].lease_until - now) // 1000 + 1
        raise Refused(f"{host} has renewed its leases lately, so it lives or died just now; try again in {wait} s")
    warn("a person says that a host is dead", host=host, mails=there[host].mails)
    return sum(_settle_journal(db, journal, host, now) for journal in _journals_of(db, host))


def _journals_of(db: Db, host: str) -> Iterable[str]:
    rows = db.rows("SELECT DISTINCT journal FROM batches WHERE state = ?", BatchState.LEASED)
    return [str(journal) for (journal,) in rows if name_parts(str(journal)).host == host]


def _settle_journal(db: Db, journal: str, host: str, now: int) -> int:
    reason = f"its host {host} is dead, as a person said; not sent again"
    unknown = 0
    while leases := leases_of(db, journal, now, CHUNK):
        for lease in leases:
            outcomes = all_unknown(db, lease, reason, now)
            if settle(db, lease, outcomes, now):
                unknown += len(outcomes)
    return unknown

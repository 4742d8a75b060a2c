"""What became of a campaign's mails by recipient domain, counted when somebody wants to know, beside the sending.

Batches that are over are counted once each, some at a time, and never again: what is counted is held against the
batches' own counters, and if it differs (a person decided about unknown mails) it is counted anew. When the campaign is
over the result is kept.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from app.db import Db
from app.models.states import BatchState, CampaignStatus, RecipientState

#: Batches read by one statement: 5,000 recipients, some hundredths of a second.
PAGE = 50
#: So many domains are shown, and kept, one by one.
MOST_SHOWN = 50
#: In memory there are no more than this; then the smallest ones go to the others, until half are left.
MOST_DOMAINS = 20_000
#: A campaign that does not change any more.
OVER = (CampaignStatus.SENT, CampaignStatus.CANCELLED, CampaignStatus.FAILED)

_STATES = (RecipientState.SENT, RecipientState.FAILED, RecipientState.SKIPPED, RecipientState.UNKNOWN)
_COLUMNS = ", ".join(_STATES)


@dataclass(frozen=True)
class DomainShare:
    """One recipient domain; `domains`: how many stand here together, 1 for one of its own."""

    domain: str
    sent: int
    failed: int
    skipped: int
    unknown: int
    domains: int = 1

    @property
    def recipients(self) -> int:
        return self.sent + self.failed + self.skipped + self.unknown


@dataclass(frozen=True)
class DomainShares:
    """`domains`: the largest first. `others`: the rest together. `counted` of `decided` recipients are in them."""

    domains: tuple[DomainShare, ...]
    others: DomainShare
    counted: int
    decided: int

    @property
    def is_complete(self) -> bool:
        """Whether all of the batches that are over have been counted."""
        return self.counted == self.decided


NOTHING = DomainShare("", 0, 0, 0, 0, 0)
NONE_YET = DomainShares((), NOTHING, 0, 0)


class DomainCount:
    """Counts one campaign; `seen` is what is known so far, for whoever asks meanwhile. One thread at a time steps."""

    def __init__(self, campaign_id: int) -> None:
        self._campaign = campaign_id
        self.seen = NONE_YET
        self._forget()

    def step(self, db: Db, seconds: float) -> bool:
        """Go on counting for about so long; True when there is nothing left to count for now."""
        over = self._over(db)
        if self._is_kept(db, over):
            return True
        if self._differs(over):
            self._forget()
        deadline = time.monotonic() + seconds
        for numbers in self._pages(db):
            if time.monotonic() >= deadline:
                break
            self._count(db, numbers)
        else:
            over = self._over(db)
            if self._differs(over):
                self._forget()
                self.seen = self._summed(over.recipients)
                return False
        self.seen = self._summed(over.recipients)
        if self.seen.is_complete and over.is_ended:
            self._keep(db)
        return self.seen.is_complete

    def _over(self, db: Db) -> _Over:
        """How much is over, by the batches' own counters."""
        row = db.row(
            "SELECT COUNT(*), COALESCE(SUM(sent), 0), COALESCE(SUM(failed), 0), COALESCE(SUM(skipped), 0), "
            "COALESCE(SUM(unknown), 0) FROM batches WHERE campaign_id = ? AND state = ?",
            self._campaign, BatchState.DONE,
        )  # fmt: skip
        status = db.value("SELECT status FROM campaigns WHERE id = ?", self._campaign)
        assert row is not None
        return _Over(int(row[0]), [int(value) for value in row[1:]], status in OVER)

    def _differs(self, over: _Over) -> bool:
        """Whether what was counted is not so any more."""
        if over.batches < len(self._counted):
            return True
        return over.batches == len(self._counted) and over.sums != self._sums()

    def _pages(self, db: Db) -> Iterable[list[int]]:
        """The batches that are over and not counted, a page at a time."""
        last = 0
        while True:
            rows = db.rows(
                "SELECT number FROM batches WHERE campaign_id = ? AND state = ? AND number > ? ORDER BY number LIMIT ?",
                self._campaign, BatchState.DONE, last, 20 * PAGE,
            )  # fmt: skip
            if not rows:
                return
            last = int(rows[-1][0])
            new = [int(number) for (number,) in rows if number not in self._counted]
            for begin in range(0, len(new), PAGE):
                yield new[begin : begin + PAGE]

    def _count(self, db: Db, numbers: Sequence[int]) -> None:
        domain = (
            "SUBSTRING_INDEX(s.email_key, '@', -1)"
            if db.dialect == "mysql"
            else "SUBSTR(s.email_key, INSTR(s.email_key, '@') + 1)"
        )
        rows = db.rows(
            f"SELECT {domain} AS domain, r.state, COUNT(*) FROM recipients r{db.by_batch} "
            "JOIN subscribers s ON s.id = r.subscriber_id WHERE r.campaign_id = ? "
            f"AND r.batch IN ({', '.join('?' * len(numbers))}) GROUP BY domain, r.state",
            self._campaign, *numbers,
        )  # fmt: skip
        for name, state, count in rows:
            if state in _STATES:
                self._domains.setdefault(str(name), [0] * len(_STATES))[_STATES.index(state)] += int(count)
        self._counted.update(numbers)
        if len(self._domains) > MOST_DOMAINS:
            self._shrink()

    def _shrink(self) -> None:
        """Give the smallest domains to the others: a list of companies has as many domains as people."""
        by_size = sorted(self._domains, key=lambda name: sum(self._domains[name]), reverse=True)
        for name in by_size[MOST_DOMAINS // 2 :]:
            _add(self._rest, self._domains.pop(name))
            self._rest_domains += 1

    def _summed(self, decided: int) -> DomainShares:
        by_size = sorted(self._domains, key=lambda name: (-sum(self._domains[name]), name))
        others = list(self._rest)
        for name in by_size[MOST_SHOWN:]:
            _add(others, self._domains[name])
        found = tuple(_share(name, self._domains[name]) for name in by_size[:MOST_SHOWN])
        count = self._rest_domains + max(0, len(by_size) - MOST_SHOWN)
        return DomainShares(found, _share("", others, count), sum(self._sums()), decided)

    def _sums(self) -> list[int]:
        sums = list(self._rest)
        for counts in self._domains.values():
            _add(sums, counts)
        return sums

    def _forget(self) -> None:
        self._counted: set[int] = set()
        self._domains: dict[str, list[int]] = {}
        self._rest = [0] * len(_STATES)
        self._rest_domains = 0

    def _is_kept(self, db: Db, over: _Over) -> bool:
        """Take what was kept of a campaign that is over, if it is still so."""
        if not over.is_ended:
            return False
        rows = db.rows(f"SELECT domain, {_COLUMNS}, domains FROM domain_shares WHERE campaign_id = ?", self._campaign)
        shares = [DomainShare(str(name), *(int(value) for value in counts)) for name, *counts in rows]
        if not shares or [sum(getattr(one, state) for one in shares) for state in _STATES] != over.sums:
            return False
        others = next((one for one in shares if not one.domain), NOTHING)
        largest = sorted((one for one in shares if one.domain), key=lambda one: (-one.recipients, one.domain))
        self.seen = DomainShares(tuple(largest), others, over.recipients, over.recipients)
        return True

    def _keep(self, db: Db) -> None:
        shares = [*self.seen.domains, self.seen.others]
        with db.transaction():
            db.run("DELETE FROM domain_shares WHERE campaign_id = ?", self._campaign)
            db.run_many(
                f"INSERT INTO domain_shares (campaign_id, domain, {_COLUMNS}, domains)",
                [
                    (self._campaign, one.domain[:255], one.sent, one.failed, one.skipped, one.unknown, one.domains)
                    for one in shares
                ],
            )


@dataclass(frozen=True)
class _Over:
    """The batches that are over, and the sums of their counters in the order of _STATES."""

    batches: int
    sums: list[int]
    is_ended: bool

    @property
    def recipients(self) -> int:
        return sum(self.sums)


def _share(domain: str, counts: Sequence[int], domains: int = 1) -> DomainShare:
    sent, failed, skipped, unknown = counts
    return DomainShare(domain, sent, failed, skipped, unknown, domains)


def _add(to: list[int], counts: Sequence[int]) -> None:
    for place, count in enumerate(counts):
        to[place] += count

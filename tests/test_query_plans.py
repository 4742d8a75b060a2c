"""No statement of the paths that run all the time reads a whole table of millions.

The real code runs over filled tables while every statement is written down; then the database is
asked how it carries each of them out.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from app.campaigns.audience import known_fields, list_sizes, unique_total
from app.campaigns.batches import disown, hand_back, lease_next, mails_of, new_token
from app.campaigns.finish import try_finish
from app.campaigns.housekeeping import next_ready_at, ready_batches
from app.campaigns.journal import Journal
from app.campaigns.keeper import LeaseKeeper
from app.campaigns.outcomes import Outcome, write_outcomes
from app.campaigns.progress import progress_of
from app.campaigns.recipients import recipients_of
from app.campaigns.sweep import sweep
from app.config import Settings
from app.db import Db
from app.mail.servers import add_server, choose
from app.models.states import RecipientState
from app.models.tables import Campaign
from tests.sending import NOW, add_list, add_people, draft, expand, send_all, start
from tests.smtp_server import SmtpServer

Statement = tuple[str, Any]

#: Tables that hold a row per person, or per hundred of them.
LARGE = ("recipients", "memberships", "subscribers", "batches")


class Ledger:
    """Writes down what is executed while `watching`."""

    def __init__(self, db: Db, patch: pytest.MonkeyPatch) -> None:
        self.seen: dict[str, Any] = {}
        self._execute: Any = db.peewee.execute_sql
        self._db = db
        patch.setattr(db.peewee, "execute_sql", self._record)

    def _record(self, sql: str, params: Any = None, *rest: Any, **named: Any) -> Any:
        if re.match(r"\s*(SELECT|UPDATE|DELETE|INSERT)", sql, re.IGNORECASE):
            self.seen.setdefault(sql, params)
        return self._execute(sql, params, *rest, **named)

    def scans(self) -> list[str]:
        """The statements that read a large table from end to end."""
        found = []
        for sql, params in list(self.seen.items()):
            if re.match(r"\s*INSERT", sql, re.IGNORECASE) and "SELECT" not in sql:
                continue
            found += [f"{step}  <-  {' '.join(sql.split())[:300]}" for step in self._bad_steps(sql, params)]
        return found

    def _bad_steps(self, sql: str, params: Any) -> Iterator[str]:
        large = large_names(sql)
        if self._db.dialect == "sqlite":
            for row in self._execute(f"EXPLAIN QUERY PLAN {sql}", params).fetchall():
                words = str(row[3]).split()
                if words[0] == "SCAN" and words[1] in large:
                    yield str(row[3])
            return
        for row in self._execute(f"EXPLAIN {sql}", params).fetchall():
            _, _, table, kind, _, key, *_ = row
            if table in large and (kind in ("ALL", "index") or key is None):
                yield str(row)


def large_names(sql: str) -> set[str]:
    """The names under which a statement speaks of the large tables."""
    names = set()
    for table, alias in re.findall(rf"\b({'|'.join(LARGE)})\b[\"`]?(?:\s+(?:AS\s+)?[\"`]?(\w+))?", sql):
        names |= {table, alias}
    return names


@pytest.fixture
def filled(db: Db, settings: Settings) -> int:
    """Six campaigns to 2000 people each, one of them sending; statistics up to date. The sending one's id."""
    add_server(name="sink", host="127.0.0.1", port=25, tls="none", now=NOW)
    people = add_people(db, 4000)
    for number in range(6):
        add_list(db, f"list{number}", people[number * 400 : number * 400 + 2000])
    small = Settings(**{**settings.__dict__, "send_batch_size": 20})
    campaigns = [draft(db, [f"list{number}"]) for number in range(6)]
    for campaign_id in campaigns:
        start(db, campaign_id)
        expand(db, small, campaign_id)
    for campaign_id in campaigns[:-1]:
        db.run("UPDATE batches SET state = 'done', sent = pending, pending = 0 WHERE campaign_id = ?", campaign_id)
        db.run("UPDATE recipients SET state = 'sent' WHERE campaign_id = ?", campaign_id)
        try_finish(db, campaign_id, NOW)
    if db.dialect == "sqlite":
        db.run("ANALYZE")
    else:
        db.rows("ANALYZE TABLE recipients, memberships, subscribers, batches, campaigns")
    return campaigns[-1]


@pytest.fixture
def ledger(db: Db, filled: int, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    return Ledger(db, monkeypatch)


def lease_all_kinds(db: Db, settings: Settings, campaign_id: int) -> None:
    """Lease, read, keep, hand back, write outcomes of every kind, disown."""
    journal = Journal.create(settings.journals, 1)
    keeper = LeaseKeeper(db, journal, settings.lease_seconds)
    for only in (None, campaign_id):
        now = db.now_ms()
        lease = lease_next(
            db, token=new_token(), journal=journal.name, only=only, now=now, monotonic=0.0, lease_seconds=30
        )
        assert lease is not None
        mails = mails_of(db, lease)
        assert len(mails) == 20
        keeper.hold(lease)
        keeper.step(time.monotonic(), time.monotonic())
        if only:
            assert hand_back(db, campaign_id, lease.number, lease.token, now)
            continue
        every = list(RecipientState)
        outcomes = [Outcome(m.subscriber_id, every[i % len(every)], 1, "250 ok", now) for i, m in enumerate(mails)]
        assert write_outcomes(db, campaign_id, lease.number, lease.token, outcomes, now=now, ready_at=now)
    disown(db, new_token())
    journal.close(remove=True)


def dead_worker(db: Db, settings: Settings, campaign_id: int) -> None:
    """A sweep that finds leases with and without a journal, and an owner that speaks after all."""
    for remove in (True, False):
        journal = Journal.create(settings.journals, 1)
        token = new_token()
        journal.slots[0].open(token)
        lease = lease_next(
            db, token=token, journal=journal.name, only=None, now=db.now_ms(), monotonic=0.0, lease_seconds=1
        )
        assert lease is not None
        ids = [m.subscriber_id for m in mails_of(db, lease)]
        journal.slots[0].fill(campaign_id, lease.number, ids)
        journal.slots[0].mark(0, 1)  # type: ignore[arg-type]
        journal.close(remove=remove)
        sweep(db, settings.journals, db.now_ms() + 60_000, 30, lambda _: None)
        late = [Outcome(ids[1], RecipientState.SENT, 1, "250 ok", 1)]
        write_outcomes(db, campaign_id, lease.number, token, late, now=1, ready_at=1)


def send_over_smtp(db: Db, settings: Settings, campaign_id: int) -> None:
    db.run("UPDATE batches SET ready_at = ? WHERE campaign_id = ? AND number > 5", NOW * 2, campaign_id)
    with SmtpServer() as server:
        db.run("UPDATE servers SET port = ?", server.port)
        assert send_all(db, settings) > 0
    choose_one: Callable[..., object] = choose
    choose_one(db, campaign_id, NOW, connected=set(), tried=set())


def look(db: Db, settings: Settings, campaign_id: int) -> None:
    """What people and scaling look at while a campaign is sent."""
    now = db.now_ms()
    progress_of(db, Campaign.get_by_id(campaign_id), now)
    progress_of(db, Campaign.get_by_id(1), now)
    ready_batches(db, now, 16)
    next_ready_at(db, now)
    assert not try_finish(db, campaign_id, now)
    list_sizes(db, campaign_id)
    unique_total(db, [1, 2])
    known_fields(db, [1, 2])


def read_recipients(db: Db, settings: Settings, campaign_id: int) -> None:
    campaign = Campaign.get_by_id(campaign_id)
    for state in (None, "pending", "sending", "sent", "failed", "skipped", "unknown"):
        list(recipients_of(db, campaign, state=state))
    assert len(list(recipients_of(db, campaign, email="p2500@example.test"))) == 1


def expand_again(db: Db, settings: Settings, campaign_id: int) -> None:
    again = draft(db, ["list0", "list1", "list2"])
    start(db, again)
    expand(db, Settings(**{**settings.__dict__, "expand_batch_size": 200}), again)
    assert threading.active_count() > 0


@pytest.mark.parametrize("path", [lease_all_kinds, dead_worker, send_over_smtp, look, read_recipients, expand_again])
def test_no_statement_reads_a_large_table_from_end_to_end(
    db: Db, settings: Settings, filled: int, ledger: Ledger, path: Callable[[Db, Settings, int], None]
) -> None:
    path(db, settings, filled)
    assert len(ledger.seen) > 2
    assert ledger.scans() == []


def test_a_statement_that_does_is_found(db: Db, filled: int, ledger: Ledger) -> None:
    db.rows("SELECT r.reason FROM recipients r WHERE r.reason LIKE ?", "%x%")
    db.rows("SELECT 1 FROM memberships AS m WHERE m.updated_at > ?", 5)
    db.run("UPDATE recipients SET reason = NULL WHERE tried_at = ?", 5)
    assert len(ledger.scans()) == 3

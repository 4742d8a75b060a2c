"""No statement of the paths that run all the time reads a whole table of millions.

The real code runs over filled tables while every statement is written down; then the database is
asked how it carries each of them out.
"""

from __future__ import annotations

import io
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from app.campaigns.audience import known_fields, list_sizes, unique_total
from app.campaigns.auto_pause import pause_when_failing
from app.campaigns.batches import disown, hand_back, lease_next, new_token
from app.campaigns.bounces import forget_bounces, note_bounces
from app.campaigns.finish import try_finish
from app.campaigns.halting import in_hand_from, resume_campaign
from app.campaigns.housekeeping import next_ready_at, ready_batches
from app.campaigns.journal import Journal
from app.campaigns.keeper import LeaseKeeper
from app.campaigns.mails import mails_of
from app.campaigns.outcomes import Outcome, write_outcomes
from app.campaigns.progress import progress_of
from app.campaigns.recipients import recipients_of
from app.campaigns.sweep import sweep
from app.campaigns.why import why
from app.config import Settings
from app.db import Db
from app.lists import suppressing
from app.lists.importing import import_csv
from app.lists.memberships import forget, unsubscribe
from app.lists.suppressing import Wanted, add_rules, listed, reach_all, remove_rule
from app.mail.servers import add_server, release_holds, servers_of
from app.mail.suppression import parse_rule
from app.models.states import RecipientState
from app.models.tables import Campaign
from app.queues.recipients import waiting_recipients
from tests.sending import NOW, add_list, add_people, draft, expand, send_all, start
from tests.smtp_server import SmtpServer

Statement = tuple[str, Any]

#: Tables that hold a row per person, or per hundred of them.
LARGE = ("recipients", "memberships", "subscribers", "batches", "suppressions")


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

    def steps(self) -> list[str]:
        """How SQLite carries out each statement."""
        return [
            f"{row[3]}  <-  {' '.join(sql.split())[:300]}"
            for sql, params in list(self.seen.items())
            for row in self._execute(f"EXPLAIN QUERY PLAN {sql}", params).fetchall()
        ]

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
    assert len(servers_of(db, campaign_id, "news@shop.test")) == 1
    release_holds(db, server_id=1)
    release_holds(db, sender="news@shop.test")


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
    waiting_recipients(db, now)
    in_hand_from(db, "news@shop.test")


def pause_and_resume(db: Db, settings: Settings, campaign_id: int) -> None:
    """By itself, for its errors, then by a person."""
    lease_all_kinds(db, settings, campaign_id)
    assert pause_when_failing(db, replace(settings, pause_errors=1, pause_error_percent=1), campaign_id, NOW)
    resume_campaign(db, campaign_id, NOW)


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


def expand_with_skipped(db: Db, settings: Settings, campaign_id: int) -> None:
    """With a few whom nobody may mail, then with more than a page has members."""
    for share in (50, 2):
        for id_ in range(1, 2001, share):
            db.run("UPDATE subscribers SET status = 'bounced' WHERE id = ?", id_)
        expand_again(db, settings, campaign_id)


def leave(db: Db, settings: Settings, campaign_id: int) -> None:
    """People leave and bounce while the campaign is sent, and somebody asks about each."""
    for name in ("p2001", "p2500"):
        unsubscribe(db, "list5", f"{name}@example.test")
        forget(db, f"{name}@example.test")
    lease = lease_next(
        db, token=new_token(), journal="j", only=campaign_id, now=db.now_ms(), monotonic=0.0, lease_seconds=30
    )
    assert lease is not None
    assert any(mail.skip_reason for mail in mails_of(db, lease))
    for name in ("p2001", "p2003", "p3", "nobody"):
        assert why(db, Campaign.get_by_id(campaign_id), f"{name}@example.test", db.now_ms()).sentence
    note_bounces(db, dict.fromkeys(range(2001, 2011), "550 no"))
    forget_bounces(db, range(2001, 2011))


def suppress(db: Db, settings: Settings, campaign_id: int) -> None:
    """Rules come, are met by an import, and go."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suppressing, "PAGE", 100)
        for rules in (["@other.test", "p5@example.test"], [f"p{i}@elsewhere.test" for i in range(2000)], ["@x.test"]):
            add_rules(db, [Wanted(parse_rule(rule), "test") for rule in rules])
            if db.dialect == "mysql":
                db.rows("ANALYZE TABLE suppressions, subscribers")
            reach_all(db)
        text = "email\n" + "".join(f"new{i}@example.test\n" for i in range(50))
        import_csv(db, io.BytesIO(text.encode()), list_to="list0", rejects_in=settings.state, file_name="people.csv")
        assert len(list(listed(db))) == 2003
        for rule in ("@other.test", "p5@example.test"):
            assert remove_rule(db, parse_rule(rule)).removed


PATHS = [
    lease_all_kinds,
    dead_worker,
    send_over_smtp,
    look,
    pause_and_resume,
    read_recipients,
    expand_again,
    expand_with_skipped,
    leave,
    suppress,
]


@pytest.mark.parametrize("path", PATHS)
def test_no_statement_reads_a_large_table_from_end_to_end(
    db: Db, settings: Settings, filled: int, ledger: Ledger, path: Callable[[Db, Settings, int], None]
) -> None:
    path(db, settings, filled)
    assert len(ledger.seen) > 2
    assert ledger.scans() == []


@pytest.mark.parametrize("path", [expand_with_skipped, leave, suppress])
def test_nor_goes_sqlite_through_all_who_are_active_when_it_has_no_statistics(
    db: Db, settings: Settings, filled: int, ledger: Ledger, path: Callable[[Db, Settings, int], None]
) -> None:
    """It takes a status for something rare then, although nearly everybody is active."""
    if db.dialect == "mysql":
        pytest.skip("MySQL always has statistics")
    db.run("DELETE FROM sqlite_stat1")
    db.rows("ANALYZE sqlite_schema")
    path(db, settings, filled)
    assert ledger.scans() == []
    assert [step for step in ledger.steps() if "subscribers_status (status=?)" in step] == []


def test_a_statement_that_does_is_found(db: Db, filled: int, ledger: Ledger) -> None:
    db.rows("SELECT r.reason FROM recipients r WHERE r.reason LIKE ?", "%x%")
    db.rows("SELECT 1 FROM memberships AS m WHERE m.updated_at > ?", 5)
    db.run("UPDATE recipients SET reason = NULL WHERE tried_at = ?", 5)
    assert len(ledger.scans()) == 3

"""What of sending needs somebody, from the database's own rows; and what does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from app.campaigns.journal import host_name
from app.config import Settings
from app.db import Db
from app.mail.servers import add_server
from app.scaling.alerts import Alert
from app.schedules.search import LATE_MS
from app.watch.sending import DAY_MS, LATE_START_MS, SILENT_HOST_MS, sending_alerts
from tests.schedules.people import add_users
from tests.sending import NOW, add_list, add_people, draft, expand, start
from tests.test_query_plans import Ledger

Scene = Callable[[Db], object]


@pytest.fixture
def campaign(db: Db, settings: Settings) -> int:
    """One that is being sent to 250 people over one server."""
    add_server(name="relay", host="127.0.0.1", port=1, tls="none", now=NOW)
    add_list(db, "all", add_people(db, 250))
    campaign_id = draft(db, ["all"], name="News")
    start(db, campaign_id)
    expand(db, settings, campaign_id)
    return campaign_id


def found(db: Db, now: int = NOW) -> dict[str, Alert]:
    return {alert.key: alert for alert in sending_alerts(db, now)}


def test_a_campaign_that_is_sent_needs_nobody(db: Db, campaign: int) -> None:
    assert found(db) == {}


def test_an_empty_database_needs_nobody(db: Db) -> None:
    assert found(db) == {}


def _update(table: str, **columns: Any) -> Scene:
    names = ", ".join(f"{name} = ?" for name in columns)
    return lambda db: db.run(f"UPDATE {table} SET {names}", *columns.values())


SCENES: dict[str, tuple[Scene, str, str]] = {
    "a server that cools down": (
        _update("servers", cooldown_step=3, cooldown_until=NOW + 60_000, cooldown_reason="421 later"),
        "server:1", "server relay: in trouble 3 times in a row (421 later), tried again at",
    ),
    "a server that is being tried": (
        _update("servers", cooldown_step=1, cooldown_until=NOW - 1, cooldown_reason="421 later"),
        "server:1", "a mail is being tried",
    ),
    "a sender that a server refuses": (
        lambda db: db.run(
            "INSERT INTO sender_cooldowns (server_id, sender, cooldown_until, cooldown_reason, cooldown_step) "
            "VALUES (1, 'news@shop.test', ?, '550 not you', 1)", NOW + 60_000),
        "server:1:news@shop.test", "refuses mails from news@shop.test (550 not you)",
    ),
    "a campaign that paused itself": (
        _update("campaigns", status="paused", reason="20 of 40 mails failed (50 %): 550 no"),
        "campaign_paused:1", "campaign 1 'News': paused by itself: 20 of 40 mails failed",
    ),
    "a campaign that failed": (
        _update("campaigns", status="failed", reason="no list is left", finished_at=NOW - DAY_MS),
        "campaign_failed:1", "failed: no list is left",
    ),
    "a campaign that nobody begins": (
        _update("campaigns", status="scheduled", scheduled_at=NOW - LATE_START_MS - 1),
        "campaign_late:1", "should have begun 3 minutes ago",
    ),
    "an expansion that fails": (
        _update("expansions", state="running", error="disk full", failures=2),
        "expansion:1", "its lists cannot be read (2 tries in a row): disk full",
    ),
    "a campaign without a server": (
        lambda db: (
            db.run("UPDATE servers SET state = 'removed'"), db.run("UPDATE batches SET ready_at = ?", NOW + 60_000)
        ),
        "campaign_blocked:1", "stands still: no active SMTP server",
    ),
    "mails to decide about": (
        lambda db: db.run("UPDATE batches SET unknown = 7, pending = pending - 7 WHERE number = 2"),
        "unknown:1", "nobody knows whether 7 mails arrived",
    ),
    "late schedules": (
        lambda db: add_users(db, 3, due=NOW - LATE_MS), "schedules", "3 users are due for 2 minutes and more",
    ),
    "a host that is gone": (
        lambda db: db.run(
            "UPDATE batches SET state = 'leased', token = 't', journal = ?, lease_until = ? WHERE number = 1",
            "mail-9~boot~1~x.journal", NOW - SILENT_HOST_MS - 1),
        "host:mail-9", "has 100 mails in hand",
    ),
}  # fmt: skip


@pytest.mark.parametrize("scene", SCENES, ids=lambda name: name.replace(" ", "_"))
def test_each_is_told_once_with_what_to_do(db: Db, campaign: int, scene: str) -> None:
    happen, key, words = SCENES[scene]
    happen(db)
    alarms = found(db)
    assert list(alarms) == [key], scene
    alert = alarms[key]
    assert words in alert.line
    assert alert.everywhere
    assert alert.source == "sending"


@pytest.mark.parametrize(
    "happen",
    [
        _update("campaigns", held_until=NOW + 3_600_000, held_by="hour limit of server relay"),
        _update("campaigns", status="paused"),
        _update("campaigns", status="cancelled"),
        _update("campaigns", status="failed", reason="long ago", finished_at=NOW - DAY_MS - 1),
        _update("campaigns", status="scheduled", scheduled_at=NOW - LATE_START_MS),
        _update("batches", ready_at=NOW + 60_000),
        _update("servers", state="paused", cooldown_step=2, cooldown_until=NOW + 1, cooldown_reason="x"),
        lambda db: add_users(db, 1, due=NOW - LATE_MS + 1),
        lambda db: add_users(db, 1, due=NOW - DAY_MS, enabled=0),
        lambda db: db.run(
            "UPDATE batches SET state = 'leased', token = 't', journal = ?, lease_until = ? WHERE number = 1",
            f"{host_name()}~boot~1~x.journal", NOW - DAY_MS,
        ),
    ],
)  # fmt: skip
def test_what_is_as_it_should_be_is_not_told(db: Db, campaign: int, happen: Scene) -> None:
    happen(db)
    assert found(db) == {}


def test_what_is_decided_is_over(db: Db, campaign: int) -> None:
    db.run("UPDATE batches SET unknown = 7, pending = pending - 7 WHERE number = 2")
    db.run("UPDATE campaigns SET status = 'cancelled'")
    assert found(db) == {}, "nobody may send them again"
    db.run("UPDATE campaigns SET status = 'sent'")
    assert list(found(db)) == ["unknown:1"]
    db.run("UPDATE batches SET unknown = 0, sent = 7 WHERE number = 2")
    assert found(db) == {}


def test_very_many_late_schedules_are_counted_so_far_only(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.watch.sending.MOST_COUNTED", 5)
    add_users(db, 9, due=NOW - LATE_MS)
    assert "more than 4 users" in found(db)["schedules"].line


def test_looking_reads_no_large_table_from_end_to_end(db: Db, campaign: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        db.run(
            "INSERT INTO batches (campaign_id, number, state, ready_at, pending, sent) "
            "SELECT ?, number, 'done', 0, 0, 100 FROM batches WHERE campaign_id = ?",
            100 + number, campaign,
        )  # fmt: skip
    db.run("UPDATE batches SET unknown = 1 WHERE campaign_id = ? AND number = 1", campaign)
    for table in ("batches", "campaigns", "user_monitor_schedules"):
        db.run(f"ANALYZE {table}" if db.dialect == "sqlite" else f"ANALYZE TABLE {table}")
    ledger = Ledger(db, monkeypatch)
    sending_alerts(db, NOW)
    assert any("unknown > 0" in sql for sql in ledger.seen)
    # On SQLite that index holds only the batches that have such a mail: reading all of it is the point.
    assert [
        one for one in ledger.scans() if not one.startswith("SCAN batches USING COVERING INDEX batches_unknown")
    ] == []

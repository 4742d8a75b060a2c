"""Hours of deliveries are summed up once, and whoever asks for sums never notices."""

from __future__ import annotations

import threading

import pytest

from app.campaigns import delivery_hours
from app.campaigns.delivery_hours import COLUMNS, HOURS, OLDEST_MINUTES, OPEN_HOURS, first_open, roll_up, totals
from app.campaigns.outcomes import Outcome, write_outcomes
from app.config import Settings
from app.db import Db, connect
from app.models.states import RecipientState
from app.web.application import create_app
from app.web.series import deliveries_of
from tests.scraping import Scraped
from tests.sending import add_list, add_people, add_test_server, draft, expand, start
from tests.smtp_server import SmtpServer
from tests.web import Caller, caller

HOUR_MS, MINUTE_MS = 3_600_000, 60_000
#: A whole hour, so that minutes count from its beginning.
NOW = 497_222 * HOUR_MS + 20 * MINUTE_MS
MINUTE = NOW // MINUTE_MS


def deliver(db: Db, minutes_ago: int, server: int = 1, campaign: int = 1, sent: int = 3) -> None:
    db.run(
        "INSERT INTO deliveries (server_id, minute, campaign_id, attempts, sent, failed, deferred, unknown) "
        "VALUES (?, ?, ?, ?, ?, 1, 0, 2)",
        server, MINUTE - minutes_ago, campaign, sent + 3, sent,
    )  # fmt: skip


def by_minutes(db: Db) -> dict[int, list[int]]:
    sums = ", ".join(f"SUM({name})" for name in COLUMNS)
    rows = db.rows(f"SELECT server_id, {sums} FROM deliveries GROUP BY server_id")
    return {int(row[0]): [int(value) for value in row[1:]] for row in rows}


def test_what_is_over_is_summed_up_by_hour_and_server_and_the_rest_left(db: Db) -> None:
    # 00:20 now; the open hours begin three hours before it.
    begin = 20 + OPEN_HOURS * 60
    for minutes_ago in (5, begin, begin + 1, begin + 60, begin + 61):
        deliver(db, minutes_ago)
    deliver(db, begin + 30, server=2, campaign=7)
    deliver(db, begin + 30, campaign=7)

    assert roll_up(db, NOW) == 3

    hour = NOW // HOUR_MS - OPEN_HOURS
    assert db.rows("SELECT * FROM delivery_hours ORDER BY hour, server_id") == [
        (hour - 2, 1, 6, 3, 1, 0, 2), (hour - 1, 1, 18, 9, 3, 0, 6), (hour - 1, 2, 6, 3, 1, 0, 2),
    ]  # fmt: skip
    assert first_open(db) == hour
    assert totals(db) == by_minutes(db)
    assert roll_up(db, NOW) == 0


def test_sums_are_the_same_whenever_hours_are_summed_up(db: Db) -> None:
    assert totals(db) == {}
    for day in range(70, -1, -1):
        for minutes in (7, 500, 1000):
            deliver(db, day * 1440 + minutes, server=1 + day % 3, campaign=day + minutes)
    before = by_minutes(db)
    assert totals(db) == before
    while roll_up(db, NOW - 9 * HOUR_MS):
        assert totals(db) == before
    deliver(db, 3, server=9)
    roll_up(db, NOW)
    assert totals(db) == by_minutes(db) == {**before, 9: [6, 3, 1, 0, 2]}


def test_a_long_silence_costs_no_more_than_one_look(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    deliver(db, 3 * 365 * 1440)
    deliver(db, 4000)
    asked: list[str] = []
    run = db.run

    def noted(sql: str, *values: object) -> int:
        asked.append(sql)
        return run(sql, *values)

    monkeypatch.setattr(db, "run", noted)
    assert roll_up(db, NOW) == 2
    assert len(asked) == 2


def test_one_call_does_bounded_work_and_the_next_goes_on(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery_hours, "PASSES", 2)
    for day in range(1, 8):
        deliver(db, day * 1440)
    done = [roll_up(db, NOW) for _ in range(5)]
    assert sum(done) == 7
    assert done[-1] == 0
    assert max(done) <= 2 * HOURS
    assert totals(db) == by_minutes(db)


def test_many_who_sum_up_at_once_count_each_hour_once(db: Db, database_url: str) -> None:
    for day in range(1, 40):
        deliver(db, day * 1440, server=day % 4)
    failed: list[BaseException] = []

    def work() -> None:
        own = connect(database_url)
        try:
            for _ in range(3):
                roll_up(own, NOW)
        except BaseException as error:
            failed.append(error)
        finally:
            own.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert db.value("SELECT COUNT(*) FROM delivery_hours") == 39
    assert totals(db) == by_minutes(db)


def test_what_is_told_late_counts_into_an_hour_that_is_still_open(db: Db, settings: Settings) -> None:
    with SmtpServer() as server:
        add_test_server(server)
    add_list(db, "all", add_people(db, 2))
    campaign = draft(db, ["all"])
    start(db, campaign)
    expand(db, settings, campaign)
    deliver(db, 5 * 60)
    roll_up(db, NOW)
    db.run("UPDATE batches SET state = 'leased', token = 't', lease_until = ?", NOW + 1)
    tried = (NOW - 26 * HOUR_MS, NOW - 90 * MINUTE_MS)
    outcomes = [Outcome(id_, RecipientState.SENT, 1, "250", at) for id_, at in zip((1, 2), tried, strict=True)]

    assert write_outcomes(db, campaign, 1, "t", outcomes, now=NOW, ready_at=0)

    minutes = db.rows("SELECT minute FROM deliveries WHERE campaign_id = ? ORDER BY minute", campaign)
    assert [MINUTE - int(row[0]) for row in minutes] == [5 * 60, OLDEST_MINUTES, 90]
    assert totals(db) == by_minutes(db)
    assert OLDEST_MINUTES < OPEN_HOURS * 60


def test_a_plot_of_a_month_is_the_same_before_and_after(db: Db) -> None:
    for minutes_ago in range(30, 31 * 1440, 313):
        deliver(db, minutes_ago, server=1 + minutes_ago % 2, campaign=minutes_ago)
    spans = [(MINUTE - minutes, MINUTE) for minutes in (31 * 1440, 7 * 1440, 3700)]
    before = [deliveries_of(db, *span, server=server) for span in spans for server in (0, 1)]
    while roll_up(db, NOW):
        pass
    assert db.value("SELECT COUNT(*) FROM delivery_hours") > 100
    assert [deliveries_of(db, *span, server=server) for span in spans for server in (0, 1)] == before
    assert all(found["step_seconds"] % 3600 == 0 and len(found["times"]) <= 361 for found in before)
    # In an hourly plot the first hour is whole.
    whole = db.value("SELECT SUM(sent) FROM deliveries WHERE minute >= ?", (MINUTE - 7 * 1440) // 60 * 60)
    assert sum(before[2]["series"]["sent"]) == whole


def test_metrics_are_the_same_before_and_after(db: Db, settings: Settings) -> None:
    with SmtpServer() as server:
        add_test_server(server)
    deliver(db, 2000, sent=5)
    deliver(db, 3, sent=6)
    reader: Caller = caller(create_app(settings, db=db), "read")
    assert Scraped(reader.get("/metrics").text).value("mailcrew_mails_sent_total", server="sink") == 11
    assert roll_up(db, NOW) == 1
    later: Caller = Caller(create_app(settings, db=db), reader.headers["Authorization"].partition(" ")[2])
    assert Scraped(later.get("/metrics").text).value("mailcrew_mails_sent_total", server="sink") == 11

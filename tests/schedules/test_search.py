"""Users found by address and by how they stand, page by page, each once; and all of them in a few figures."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest

from app.db import Db
from app.errors import UsageError
from app.schedules.claims import claim_due, start
from app.schedules.overview import overview
from app.schedules.search import LATE_MS, STANDINGS, find_schedules, late_ms
from app.schedules.times import MINUTE
from tests import test_query_plans
from tests.schedules.people import NOW, add_users, schedule
from tests.test_query_plans import Ledger


def every_page(db: Db, limit: int, **how: str) -> list[int]:
    """The users of every page, in order."""
    found: list[int] = []
    after = ""
    while True:
        page = find_schedules(db, limit, NOW, after=after, **how)
        found += [one.user.id for one in page.found]
        if page.after is None:
            return found
        assert len(page.found) == limit
        after = page.after


def late(ids: list[int]) -> list[int]:
    return sorted(ids, key=lambda id_: (schedule(id_).next_run_at, id_))


@pytest.fixture
def crowd(db: Db) -> dict[str, list[int]]:
    """Users of every standing, some with the same instants; the ids of each standing in the order of its pages."""
    chance = random.Random(5)
    made: dict[str, list[int]] = {name: [] for name in (*STANDINGS, "well", "soon")}
    for name in [name for name in made for _ in range(11)]:
        columns: dict[str, Any] = {"last_status": "ok"}
        due = NOW + MINUTE
        match name:
            case "late":
                due = NOW - LATE_MS - chance.choice((0, 5, 5, 70_000))
            case "soon":
                due = NOW - LATE_MS + 1
            case "busy":
                locked = {"locked_by": "t", "locked_until": NOW + chance.choice((1, 2, 2))}
                columns |= {**locked, "period": NOW, "started_period": chance.choice((NOW, None))}
            case "failed":
                columns["last_status"] = "failed"
            case "broken":
                columns["last_status"] = chance.choice(("error", "interrupted"))
            case "off":
                columns["enabled"] = 0
        made[name] += add_users(db, 1, due=due, **columns)
    made["busy"].sort(key=lambda id_: (schedule(id_).locked_until or 0, id_))
    made["late"] = late(made["late"])
    made["off"] = late(made["off"])
    return made


@pytest.mark.parametrize("standing", STANDINGS)
@pytest.mark.parametrize("limit", [1, 3, 11, 50])
def test_whoever_stands_so_is_on_one_page_and_nobody_else(
    db: Db, crowd: dict[str, list[int]], standing: str, limit: int
) -> None:
    assert every_page(db, limit, standing=standing) == crowd[standing]


def test_without_a_wish_all_users_come_by_id(db: Db, crowd: dict[str, list[int]]) -> None:
    assert every_page(db, 4) == sorted(id_ for ids in crowd.values() for id_ in ids)


@pytest.mark.parametrize("limit", [1, 3, 50])
def test_users_are_found_by_how_the_address_begins(db: Db, limit: int) -> None:
    ids = add_users(db, 25)
    of = {id_: f"u{id_}@example.test" for id_ in ids}
    wanted = sorted((id_ for id_ in ids if of[id_].startswith("u2")), key=lambda id_: of[id_])
    assert len(wanted) > 3
    assert every_page(db, limit, email="U2") == wanted
    assert every_page(db, limit, email=of[ids[7]].upper()) == [ids[7]]
    assert every_page(db, limit, email="nobody") == []
    assert every_page(db, limit, email="%") == []


@pytest.mark.parametrize("after", ["x", "-1", "1.", "1.2.3", "9" * 19, "²", " 1", "1;DROP TABLE users"])
def test_a_place_that_is_none_is_refused(db: Db, after: str) -> None:
    with pytest.raises(UsageError, match="leads nowhere"):
        find_schedules(db, 5, NOW, after=after)


def test_a_standing_that_is_none_and_two_wishes_at_once_are_refused(db: Db) -> None:
    with pytest.raises(UsageError, match="standing='lazy'"):
        find_schedules(db, 5, NOW, standing="lazy")
    with pytest.raises(UsageError, match="not by both"):
        find_schedules(db, 5, NOW, standing="off", email="a")


def test_late_is_who_waits_for_a_dispatcher_and_not_whom_one_has_taken(db: Db) -> None:
    (user,) = add_users(db, 1, due=NOW)
    assert late_ms(schedule(user), NOW + LATE_MS - 1) is None
    assert late_ms(schedule(user), NOW + LATE_MS) == LATE_MS
    claim_due(db, "t", NOW, 900_000, 1)
    assert late_ms(schedule(user), NOW + 10 * LATE_MS) is None, "in the queue"
    assert start(db, user, "t", NOW)
    assert late_ms(schedule(user), NOW + 10 * LATE_MS) is None, "a run is under way"
    (off,) = add_users(db, 1, due=NOW, enabled=0)
    assert late_ms(schedule(off), NOW + 10 * LATE_MS) is None


def test_the_figures_count_what_the_lists_show(db: Db, crowd: dict[str, list[int]]) -> None:
    seen = overview(db, NOW)
    shown = {name: len(every_page(db, 50, standing=name)) for name in STANDINGS}
    due = len(crowd["late"]) + len(crowd["soon"])
    assert asdict(seen) == {
        "at": NOW, "due": due, "late": shown["late"], "oldest_due_at": schedule(crowd["late"][0]).next_run_at,
        "waiting": seen.waiting, "running": seen.running, "failed": shown["failed"], "broken": shown["broken"],
        "off": shown["off"],
    }  # fmt: skip
    assert seen.waiting + seen.running == shown["busy"]
    assert min(seen.waiting, seen.running) > 0
    assert seen.lag_ms == NOW - schedule(crowd["late"][0]).next_run_at


def test_with_nobody_there_the_figures_are_nothing(db: Db) -> None:
    seen = overview(db, NOW)
    assert (seen.due, seen.oldest_due_at, seen.lag_ms, seen.waiting, seen.running) == (0, None, 0, 0, 0)


def look(db: Db) -> None:
    overview(db, NOW)


def page(**how: str) -> Callable[[Db], None]:
    def turn(db: Db) -> None:
        first = find_schedules(db, 5, NOW, **how)
        assert first.after is not None
        assert find_schedules(db, 5, NOW, after=first.after, **how).found

    return turn


@pytest.mark.parametrize(
    "path", [look, page(), page(email="u1"), *(page(standing=one) for one in STANDINGS)],
    ids=["overview", "all", "address", *STANDINGS],
)  # fmt: skip
def test_nothing_reads_all_users(db: Db, monkeypatch: pytest.MonkeyPatch, path: Callable[[Db], None]) -> None:
    for number in range(40):
        kind = number % 20
        add_users(
            db, 100, due=NOW - 10 * MINUTE if kind == 0 else NOW + number * MINUTE, enabled=int(kind != 1),
            last_status={2: "failed", 3: "error"}.get(kind, "ok"), locked_by="t" if kind == 4 else None,
            locked_until=NOW if kind == 4 else None,
        )  # fmt: skip
    tables = ("users", "user_monitor_schedules")
    if db.dialect == "sqlite":
        db.run("ANALYZE")
    else:
        db.rows(f"ANALYZE TABLE {', '.join(tables)}")
    monkeypatch.setattr(test_query_plans, "LARGE", tables)
    ledger = Ledger(db, monkeypatch)
    path(db)
    assert ledger.seen
    assert ledger.scans() == []

"""What binds: memory, the database's connections, the SMTP servers of the sending campaigns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from app.db import Db
from app.models.tables import Server
from app.queues.recipients import Recipients
from app.scaling import ceilings
from app.scaling.ceilings import (
    RESERVE_CONNECTIONS,
    RESERVE_MB,
    Present,
    Room,
    available_mb,
    connections_of,
    free_connections,
    free_room,
    limit_ceilings,
    smtp_ceilings,
)
from app.scaling.demand import Seen
from app.scaling.policy import Ceiling, Demand, Limits, Past, plan
from app.scaling.table import Queue, parse_table
from tests.sending import NOW, add_list, add_people, draft, start


def one(name: str, **fields: int) -> Queue:
    lines = "\n".join(f"{key} = {value}" for key, value in fields.items())
    found = parse_table(f'[[queue]]\nname = "{name}"\n{lines}\n').queue(name)
    assert found
    return found


SEND = one("send", threads=4, memory=500)


def test_the_room_of_a_worker_is_its_memory_and_its_connections() -> None:
    room = Room(memory_mb=2100, connections=25)

    assert room.ceilings(SEND, 3) == (Ceiling("memory", 7), Ceiling("database connections", 5))
    assert room.less(SEND, 1) == Room(1600, 14)
    assert Room(None, None).ceilings(SEND, 3) == ()


def test_a_lack_takes_workers_away_but_not_for_less_than_a_whole_one() -> None:
    assert Room(-900, 3).ceilings(SEND, 5) == (Ceiling("memory", 4), Ceiling("database connections", 5))
    assert Room(-499, -25).ceilings(SEND, 5) == (Ceiling("memory", 5), Ceiling("database connections", 3))
    assert Room(-90_000, -900).ceilings(SEND, 5) == (Ceiling("memory", 0), Ceiling("database connections", 0))


def test_those_who_go_make_up_for_a_lack_and_make_no_room_before_they_are_gone() -> None:
    assert Room(-900, -15).after([(SEND, 1)]) == Room(-400, -4)
    assert Room(-900, -15).after([(SEND, 3), (one("other"), 0)]) == Room(0, 0)
    assert Room(700, 3).after([(SEND, 3)]) == Room(700, 3)
    assert Room(None, None).after([(SEND, 3)]) == Room(None, None)


def test_a_lack_brings_a_queue_down_at_once_and_never_below_its_floor() -> None:
    for floor, target, binds in ((1, 3, "memory"), (4, 4, "floor")):
        limits = Limits(floor=floor, max=20, tasks_per_worker=10, ceilings=Room(-1100, None).ceilings(SEND, 5))
        decision = plan(Demand(1000, 5, 1.0, None, 5), limits, Past(5), 0.0)
        assert (decision.target, decision.bound_by) == (target, binds)


def test_workers_that_are_leaving_are_not_taken_for_a_lack_again(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "available_mb", lambda: RESERVE_MB + 0.0)
    staying = Present(SEND, 100, young=False)

    assert free_room(db, [staying] * 3).memory_mb == -1200
    assert free_room(db, [staying, replace(staying, leaving=True), replace(staying, leaving=True)]).memory_mb == -200


def test_what_present_workers_may_still_grow_to_is_theirs(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "available_mb", lambda: 4000.0)

    room = free_room(db, [Present(SEND, 120, young=False), Present(SEND, 700, young=True)])

    assert room.memory_mb == 4000 - RESERVE_MB - 380
    if db.dialect == "sqlite":
        assert room.connections is None
        return
    spare = free_connections(db)
    assert spare is not None
    assert 0 < spare < int(db.value("SELECT @@max_connections"))
    assert room.connections == pytest.approx(spare - RESERVE_CONNECTIONS - 11, abs=3)


@pytest.mark.parametrize(("queue", "count"), [(SEND, 11), (one("expand", threads=1), 2), (one("a", threads=3), 4)])
def test_connections_by_threads(queue: Queue, count: int) -> None:
    assert connections_of(queue) == count


def test_the_container_s_limit_counts_where_it_is_lower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(ceilings, "CGROUP", tmp_path)
    assert available_mb() is None
    (tmp_path / "meminfo").write_text("MemTotal: 9000000 kB\nMemAvailable:  1000000 kB\n")
    assert available_mb() == 1024.0
    (tmp_path / "memory.max").write_text("900000000\n")
    (tmp_path / "memory.current").write_text("500000000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 100000000\n")
    assert available_mb() == 500.0
    (tmp_path / "memory.max").write_text("max\n")
    assert available_mb() == 1024.0


def add(name: str, **limits: int) -> None:
    Server.create(name=name, host="127.0.0.1", port=25, tls="none", created_at=1, **limits)


def test_smtp_connections_bind_only_where_every_server_has_a_number(db: Db) -> None:
    add("one", max_connections=10)
    add("two", max_connections=7)
    add_list(db, "all", add_people(db, 3))
    assert smtp_ceilings(db, SEND) == ()
    start(db, draft(db, ["all"]))

    assert smtp_ceilings(db, SEND) == (Ceiling("SMTP connections", 4, hard=False),)
    db.run("UPDATE servers SET max_connections = NULL WHERE name = 'two'")
    assert smtp_ceilings(db, SEND) == ()
    db.run("UPDATE servers SET state = 'paused' WHERE name = 'two'")
    assert smtp_ceilings(db, SEND) == (Ceiling("SMTP connections", 2, hard=False),)
    db.run("UPDATE campaigns SET status = 'sent', finished_at = ?", NOW)
    assert smtp_ceilings(db, SEND) == ()


def waiting(id_: int, held_by: str | None, due: int = 5000, leased: int = 100) -> Recipients:
    return Recipients(id_, f"c{id_}", due, 0, leased, 0, 1.0, 10.0, held_by=held_by)


def seen(*campaigns: Recipients, boosted: int | None = None) -> Seen:
    boosts = {} if boosted is None else {boosted: 2}
    return Seen({}, [], {one.campaign_id: one for one in campaigns}, boosts, ())


HOUR, SECOND = "hour limit of server ses-1", "second limit of server ses-2"


def test_a_limit_binds_while_it_holds_up_every_campaign_that_has_something_to_send() -> None:
    free, idle = waiting(3, None), waiting(4, None, due=0, leased=0)

    assert limit_ceilings(seen(waiting(1, HOUR)), 2, 6) == (Ceiling(f"SMTP limit ({HOUR})", 3, hard=False),)
    assert limit_ceilings(seen(waiting(1, HOUR), waiting(2, SECOND), idle), 9, 6) == (
        Ceiling(f"SMTP limit ({HOUR} and 1 more)", 6, hard=False),
    )
    assert limit_ceilings(seen(waiting(1, HOUR), free), 2, 6) == ()
    assert limit_ceilings(seen(waiting(1, HOUR), free, boosted=3), 2, 6)[0].workers == 3, "it has its own workers"
    assert limit_ceilings(seen(waiting(1, "server ses-1: 421 busy")), 2, 6) == (), "trouble passes"
    assert limit_ceilings(seen(idle), 0, 6) == ()
    assert limit_ceilings(Seen({}, [], None, {}, ()), 0, 6) == ()


def test_no_worker_comes_against_a_limit_and_those_without_work_go() -> None:
    at_limit = limit_ceilings(seen(waiting(1, SECOND, due=100_000)), 2, 8)
    limits = Limits(floor=2, max=20, tasks_per_worker=2000, ceilings=at_limit)
    past, counts = Past(8), []
    for now in range(0, 900, 10):
        decision = plan(Demand(100_000, 100, 60.0, 50.0, 2), limits, past, float(now))
        counts.append(decision.target)
        past = decision.past
        if decision.target > 3:
            assert decision.bound_by == f"SMTP limit ({SECOND})"
    assert max(counts) == 8
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == 3
    # The limit is gone: all of them at once.
    assert plan(Demand(100_000, 100, 60.0, 50.0, 2), replace(limits, ceilings=()), past, 910.0).target == 20

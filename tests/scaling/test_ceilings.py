"""What binds: memory, the database's connections, the SMTP servers of the sending campaigns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from app.db import Db
from app.models.tables import Server
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
    smtp_ceilings,
)
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


def test_smtp_limits_bind_only_where_every_server_has_one(db: Db) -> None:
    add("one", max_connections=10, per_second=20)
    add("two", max_connections=7, per_minute=600)
    add_list(db, "all", add_people(db, 3))
    assert smtp_ceilings(db, SEND, 100.0, 3) == ()
    campaign = draft(db, ["all"])
    start(db, campaign)

    assert smtp_ceilings(db, SEND, None, 3) == (Ceiling("SMTP connections", 4, hard=False),)
    assert smtp_ceilings(db, SEND, 20.0, 3) == (Ceiling("SMTP connections", 4, hard=False),)
    assert smtp_ceilings(db, SEND, 29.0, 3)[1] == Ceiling("SMTP limit of 30/s", 3, hard=False)
    db.run("UPDATE servers SET max_connections = NULL, per_minute = NULL WHERE name = 'two'")
    assert smtp_ceilings(db, SEND, 29.0, 3) == ()
    db.run("UPDATE campaigns SET status = 'sent', finished_at = ?", NOW)
    assert smtp_ceilings(db, SEND, 29.0, 3) == ()

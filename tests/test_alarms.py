"""Alarms in the database: since when, closed, come back, seen from two hosts, silenced, told."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

from app.config import Settings
from app.db import Db, connect
from app.errors import NotFound
from app.scaling.alerts import Alert
from app.watch.alarms import Alarm, events_of, find_alarm, open_alarms, over, quiet_keys
from app.watch.noting import AGAIN_MS, KEEP_MS, acknowledge, note, note_told, remind
from app.watch.turn import take_watch
from tests.statements import recorded
from tests.watching import DEAD, DOWN, FULL, HERE, MINUTE, NOW, THERE


def keys(alarms: list[Alarm]) -> list[str]:
    return [one.key for one in alarms]


def told(db: Db, alarm: Alarm) -> list[tuple[str, str]]:
    """What happened to an alarm, and who did it."""
    assert alarm.id
    return [(event.kind, event.who) for event in events_of(db, [alarm.id])[alarm.id]]


def test_a_problem_has_stood_since_it_was_first_seen_and_is_over_when_it_is_gone(db: Db) -> None:
    (first,) = note(db, HERE, [FULL], (), NOW)
    assert (first.opened_at, first.what, first.severity, first.values["n"]) == (NOW, "9 MB left", "critical", 9)
    (later,) = note(db, HERE, [replace(FULL, what="8 MB left", values={"n": 8})], (), NOW + MINUTE)
    assert (later.id, later.opened_at, later.what, later.values) == (first.id, NOW, "8 MB left", {"n": 8})
    assert note(db, HERE, [], (), NOW + 2 * MINUTE) == []
    (closed,) = over(db, 9, 2**62)
    assert (closed.id, closed.opened_at, closed.closed_at) == (first.id, NOW, NOW + 2 * MINUTE)
    assert told(db, closed) == [("opened", ""), ("closed", "")]


def test_what_does_not_change_is_not_written(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    note(db, HERE, [FULL, DEAD], (), NOW)
    asked = recorded(db, monkeypatch)
    note(db, HERE, [FULL, DEAD], (), NOW + MINUTE)
    assert [one.split()[0] for one in asked] == ["SELECT"]


def test_what_comes_back_within_minutes_is_the_same(db: Db) -> None:
    (first,) = note(db, HERE, [FULL], (), NOW)
    note(db, HERE, [], (), NOW + MINUTE)
    (again,) = note(db, HERE, [FULL], (), NOW + MINUTE + AGAIN_MS - 1)
    assert (again.id, again.times, again.opened_at, again.closed_at) == (first.id, 2, NOW, None)
    note(db, HERE, [], (), NOW + 10 * MINUTE)
    (new,) = note(db, HERE, [FULL], (), NOW + 10 * MINUTE + AGAIN_MS)
    assert new.id != first.id
    assert (new.times, new.opened_at) == (1, NOW + 10 * MINUTE + AGAIN_MS)
    assert told(db, find_alarm(db, first.id or 0)) == [("opened", ""), ("closed", ""), ("again", ""), ("closed", "")]


def test_what_a_service_that_does_not_answer_told_stays(db: Db) -> None:
    note(db, HERE, [FULL, DEAD, DOWN], (), NOW)
    assert keys(note(db, HERE, [], {"queues", "processes"}, NOW + MINUTE)) == ["dead:mail", "process:send_00"]
    assert keys(note(db, HERE, [], {"queues"}, NOW + 2 * MINUTE)) == ["dead:mail"]
    assert note(db, HERE, [], (), NOW + 3 * MINUTE) == []


def test_each_host_closes_its_own_and_both_what_everybody_sees(db: Db) -> None:
    note(db, HERE, [FULL, DEAD], (), NOW)
    found = note(db, THERE, [FULL, DEAD], (), NOW + 1)
    assert [(one.place, one.key) for one in found] == [
        (HERE, "disk:logs"), ("", "dead:mail"), (THERE, "disk:logs")
    ]  # fmt: skip
    assert [(one.place, one.key) for one in note(db, THERE, [], (), NOW + 2)] == [(HERE, "disk:logs")]


def at_once(url: str, look: Callable[[Db, int], object]) -> list[Exception]:
    """Let four look at the same moment, each with its number and connection; what went wrong."""
    start = threading.Barrier(4)
    errors: list[Exception] = []

    def one(number: int) -> None:
        db = connect(url)
        start.wait()
        try:
            look(db, number)
        except Exception as error:
            errors.append(error)
        finally:
            db.close()

    threads = [threading.Thread(target=one, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def test_those_who_look_at_once_open_it_once(db: Db, database_url: str) -> None:
    assert at_once(database_url, lambda db, _: note(db, HERE, [FULL, DEAD], (), NOW)) == []
    assert sorted(keys(open_alarms(db))) == ["dead:mail", "disk:logs"]
    assert all(told(db, one) == [("opened", "")] for one in open_alarms(db))


def test_those_who_see_it_come_and_go_in_any_order_never_wait_in_a_circle(db: Db, database_url: str) -> None:
    def look(other: Db, number: int) -> None:
        seen = [FULL, DEAD, DOWN][:: 1 if number % 2 else -1]
        for turn in range(5):
            note(other, HERE, seen if (turn + number) % 2 else [], (), NOW + turn * AGAIN_MS // 2)

    assert at_once(database_url, look) == []
    assert keys(note(db, HERE, [FULL], (), NOW + 999 * AGAIN_MS)) == ["disk:logs"]


def test_an_acknowledged_one_keeps_quiet_until_it_is_over(db: Db) -> None:
    (alarm,) = note(db, HERE, [FULL], (), NOW)
    assert quiet_keys([alarm], HERE, NOW) == frozenset()
    known = acknowledge(db, alarm.id or 0, "administrator", None, NOW + 1)
    assert (known.acknowledged_by, known.acknowledged_at, known.silent_until) == ("administrator", NOW + 1, None)
    assert quiet_keys(open_alarms(db), HERE, NOW + 400 * 86_400_000) == {"disk:logs"}
    assert quiet_keys(open_alarms(db), THERE, NOW + 2) == frozenset(), "another host's disk"
    note(db, HERE, [], (), NOW + MINUTE)
    (new,) = note(db, HERE, [FULL], (), NOW + MINUTE + AGAIN_MS)
    assert new.acknowledged_by is None
    assert told(db, known) == [("opened", ""), ("acknowledged", "administrator"), ("closed", "")]


def test_silence_for_a_time_ends_by_itself_and_holds_for_the_next_of_the_same(db: Db) -> None:
    (alarm,) = note(db, HERE, [FULL], (), NOW)
    acknowledge(db, alarm.id or 0, "token ops", NOW + 60 * MINUTE, NOW)
    note(db, HERE, [], (), NOW + MINUTE)
    (new,) = note(db, HERE, [FULL], (), NOW + 10 * MINUTE)
    assert new.id != alarm.id
    assert (new.is_quiet(NOW + 59 * MINUTE), new.is_quiet(NOW + 60 * MINUTE)) == (True, False)
    assert remind(db, new.id or 0, "token ops", NOW + 11 * MINUTE).is_quiet(NOW + 11 * MINUTE) is False


def test_what_is_over_or_never_was_cannot_be_acknowledged(db: Db) -> None:
    (alarm,) = note(db, HERE, [FULL], (), NOW)
    note(db, HERE, [], (), NOW + 1)
    with pytest.raises(NotFound, match="is over"):
        acknowledge(db, alarm.id or 0, "a", None, NOW + 2)
    with pytest.raises(NotFound, match="no alarm 99"):
        remind(db, 99, "a", NOW + 2)


def test_who_was_told_is_written_down_even_before_anybody_has_looked(db: Db) -> None:
    note_told(db, HERE, "mail ops@example.com", [FULL, DEAD], (), NOW)
    note_told(db, HERE, "mail ops@example.com", [], ["disk:logs", "of nobody"], NOW + MINUTE)
    full, dead = open_alarms(db)
    assert told(db, full) == [("opened", ""), ("told", "mail ops@example.com"), ("told closed", "mail ops@example.com")]
    assert (dead.place, told(db, dead)) == ("", [("opened", ""), ("told", "mail ops@example.com")])


def test_long_words_and_values_have_room(db: Db) -> None:
    long = Alert("k" * 900, "w" * 900, "x" * 5000, "r" * 5000, values={"what": "v" * 5000})
    (first,) = note(db, HERE, [long], (), NOW)
    (second,) = note(db, HERE, [long], (), NOW + 1)
    assert first.id == second.id


def test_what_was_over_very_long_ago_is_removed_with_its_events(db: Db) -> None:
    (old,) = note(db, HERE, [FULL], (), NOW)
    note(db, HERE, [], (), NOW + 1)
    note(db, HERE, [DEAD], (), NOW + KEEP_MS)
    assert len(over(db, 9, 2**62)) == 1
    note(db, HERE, [], (), NOW + KEEP_MS + 2)
    assert keys(over(db, 9, 2**62)) == ["dead:mail"]
    assert events_of(db, [old.id or 0]) == {old.id: []}


def test_one_process_at_a_time_has_the_watch(settings: Settings) -> None:
    mine = take_watch(settings)
    assert mine
    assert take_watch(settings) is None
    mine.close()
    other = take_watch(settings)
    assert other
    other.close()

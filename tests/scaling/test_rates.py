"""The speed of a queue: over half a minute at least, of those who work, and unknown rather than wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.queues.recipients import Recipients
from app.queues.workers import WorkerStatus
from app.scaling.demand import Seen
from app.scaling.rates import LONGEST, SHORTEST, Meter, Speeds
from app.scaling.table import Queue, Table, parse_table

TABLE: Table = parse_table('[[queue]]\nname = "send"\n[[queue]]\nname = "work"\n')
WORKER = WorkerStatus(
    pid=1, host="here", program="p", queues=["work"], threads=1, campaign_id=None, is_processing=True,
    processed_count=0, rate_per_second=0.0, rss_mb=1.0, uptime=3600.0, beat_at=1.0,
)  # fmt: skip
CAMPAIGN = Recipients(
    campaign_id=7, name="seven", due=10_000, later=0, leased=800, done=0, oldest_seconds=1.0, rate_per_second=0.0
)


def queue(name: str) -> Queue:
    found = TABLE.queue(name)
    assert found
    return found


def workers(*counts: int, **more: object) -> Seen:
    """Workers 1, 2 … that have ended so many tasks each."""
    every = [replace(WORKER, pid=n, processed_count=c, **more) for n, c in enumerate(counts, 1)]  # type: ignore[arg-type]
    return Seen(depths={}, workers=every, recipients={}, boosts={}, troubles=())


def campaign(done: int, boosts: dict[int, int] | None = None) -> Seen:
    sender = replace(WORKER, queues=["send"])
    return Seen({}, [sender], {7: replace(CAMPAIGN, done=done)}, boosts or {}, ())


def test_tasks_of_ten_seconds_have_their_true_speed_once_half_a_minute_is_seen() -> None:
    speeds = Speeds(100)
    found = []
    for look in range(20):
        # Two workers, each of which ends a task every ten seconds and has ended a thousand before.
        speeds.note(workers(1000 + look, 1000 + look), TABLE, 10.0 * look)
        found.append(speeds.of(queue("work")))
    assert found[:3] == [None] * 3
    assert found[3:] == [pytest.approx(0.2)] * 17


def test_tasks_of_a_minute_do_not_read_none_and_then_many() -> None:
    meter, found = Meter(), []
    for look in range(60):
        meter.note(10.0 * look, {"one": look // 6}, workers=1, busy=1)
        found.append(meter.rate())
    assert set(found[:6]) == {None}, "nothing has ended yet, though something is in hand: not known"
    assert all(0.012 <= rate <= 0.02 for rate in found[24:] if rate is not None)
    assert None not in found[24:]


def test_nothing_that_ends_for_long_is_a_speed_of_none() -> None:
    meter = Meter()
    for look in range(30):
        meter.note(10.0 * look, {"stuck": 5}, workers=1, busy=1)
        assert meter.rate() in (None, 0.0)
        assert (meter.rate() is None) == (10.0 * look < LONGEST - SHORTEST)


def test_a_worker_that_came_counts_from_its_first_task_and_one_that_went_until_its_last() -> None:
    meter = Meter(enough=1)
    for look in range(5):
        meter.note(10.0 * look, {"old": 500 + 10 * look}, workers=1, busy=1)
    assert meter.rate() == pytest.approx(1.0)
    meter.note(50.0, {"old": 550, "new": 10, "stranger": 90_000}, workers=3, busy=3, fresh={"new"})
    # Of the tasks of a stranger nobody knows when they ended.
    assert meter.rate() == pytest.approx((10 + 10 + 20) / (10 + 10 + 20) * 3)
    for look in range(6, 10):
        meter.note(10.0 * look, {"new": 10 * look - 40, "stranger": 90_000 + 10 * (look - 5)}, workers=2, busy=2)
    assert meter.rate() == pytest.approx(2.0)


def test_a_pid_that_is_used_again_takes_nothing_back() -> None:
    meter = Meter(enough=1)
    for look, count in enumerate((1000, 1010, 4, 14, 24)):
        meter.note(10.0 * look, {1: count}, workers=1, busy=1, fresh={1} if count == 4 else ())
    assert meter.rate() == pytest.approx((4 + 10 + 10) / 30)


def test_idle_time_before_does_not_make_the_workers_slow() -> None:
    meter = Meter()
    for look in range(20):
        meter.note(10.0 * look, {1: 0}, workers=2, busy=0)
    assert meter.rate() == 0.0
    for look in range(20, 26):
        meter.note(10.0 * look, {1: look - 19}, workers=2, busy=2)
    assert meter.rate() == pytest.approx(0.1)


def test_recipients_are_counted_by_the_batch_and_a_long_batch_is_not_a_stop() -> None:
    speeds, found = Speeds(100), []
    for look in range(40):
        # One batch of a hundred every fifty seconds.
        speeds.note(campaign(100 * (look // 5)), TABLE, 10.0 * look)
        found.append(speeds.of(queue("send")))
    assert all(1.5 <= rate <= 2.1 for rate in found[24:] if rate is not None)
    assert 0.0 not in found
    assert None not in found[24:]


def test_what_workers_of_its_own_do_for_a_campaign_is_not_the_speed_of_all() -> None:
    speeds = Speeds(1)
    for look in range(10):
        speeds.note(campaign(1000 * look, boosts={7: 3}), TABLE, 10.0 * look)
    assert speeds.of(queue("send")) is None


def test_looks_that_saw_nothing_leave_the_speed_as_it_was() -> None:
    speeds = Speeds(100)
    for look in range(10):
        blind = look in (5, 6)
        seen = replace(workers(0), workers=None) if blind else workers(100 * look)
        speeds.note(seen, TABLE, 10.0 * look)
    assert speeds.of(queue("work")) == pytest.approx(10.0)

"""Dead letters say why they died, are replayed without a moment in which they could be lost, and are trimmed."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dramatiq
import pytest
import redis
from dramatiq.brokers.redis import RedisBroker

from app import config
from app.cli import dead
from app.cli.running import run
from app.queues import dead_letters as letters
from app.queues import keys
from app.queues.broker import make_broker
from app.queues.consumer import Consumer
from app.queues.tickets import enqueue, waiting
from tests.working import eventually, running


@pytest.fixture
def broker(redis_server: str) -> Iterator[RedisBroker]:
    before = dramatiq.broker.global_broker
    broker = make_broker(f"{redis_server}?db=7")
    broker.client.flushdb()
    yield broker
    broker.client.config_set("maxmemory", "0")
    broker.client.flushdb()
    broker.client.close()
    dramatiq.broker.global_broker = before


@pytest.fixture
def home(broker: RedisBroker, redis_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("MAILCREW_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("REDIS_URL", f"{redis_server}?db=7")
    config.settings.cache_clear()
    yield tmp_path / "home"
    config.settings.cache_clear()


def command(*arguments: str) -> int:
    parser = argparse.ArgumentParser(prog="mailcrew")
    dead.add(parser.add_subparsers())
    try:
        return run(parser, ["dead", *arguments])
    except SystemExit as end:
        return int(end.code or 0)


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    assert command("list", "--json", *arguments) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def bury(broker: RedisBroker, queue: str, *args: Any, **options: Any) -> dramatiq.Message[Any]:
    """A dead letter as Dramatiq's own worker leaves it."""
    message: dramatiq.Message[Any] = broker.enqueue(
        dramatiq.Message(queue_name=queue, actor_name="act", args=args, kwargs={}, options=options)
    )
    broker.do_fetch(queue, 1)
    broker.do_nack(queue, message.options["redis_message_id"])
    return message


def kept(broker: RedisBroker, queue: str) -> int:
    # Both at one moment: a letter may just be written.
    with broker.client.pipeline() as pipe:
        pipe.zcard(keys.dead(queue))
        pipe.hlen(keys.dead_messages(queue))
        sizes = pipe.execute()
    assert sizes[0] == sizes[1]
    return int(sizes[0])


def test_a_task_that_fails_says_why_also_without_any_retry(
    broker: RedisBroker, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    @dramatiq.actor(queue_name="work", broker=broker, max_retries=0)
    def fail(number: int, city: str) -> None:
        raise RuntimeError(f"no {number}\nin {city}")

    sent = fail.send(5, city="Köln")
    with running(broker, "work"):
        eventually(lambda: kept(broker, "work") == 1, "it is a dead letter")
    (one,) = listed(capsys)
    assert (one["id"], one["queue"], one["actor"]) == (sent.message_id, "work", "fail")
    assert (one["args"], one["kwargs"], one["retries"]) == ([5], {"city": "Köln"}, 1)
    assert one["reason"] == "RuntimeError: no 5 in Köln"
    assert one["failed_at"].endswith("+00:00")
    assert command("list") == 0
    assert 'fail(5, city="Köln")' in capsys.readouterr().out
    (letter,) = letters.dead_letters(broker.client, "work")
    assert letter.message is not None
    assert "RuntimeError" in letter.message.options["traceback"]


def test_an_entry_that_is_no_message_becomes_a_dead_letter(
    broker: RedisBroker, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broker.client.hset(keys.messages("work"), "x", "not a message")
    broker.client.rpush(keys.waiting("work"), "x")
    with running(broker, "work"):
        eventually(lambda: kept(broker, "work") == 1, "it is a dead letter")
    assert [(one["id"], one["reason"]) for one in listed(capsys)] == [("x", "cannot be read")]
    assert command("replay", "--all") == 1
    assert "cannot be read" in capsys.readouterr().err
    assert command("delete", "--id", "x") == 0
    assert kept(broker, "work") == 0


def test_a_replayed_message_keeps_its_id_and_starts_afresh(broker: RedisBroker, home: Path) -> None:
    ran: list[dict[str, Any]] = []

    @dramatiq.actor(queue_name="work", broker=broker, max_retries=2)
    def act(number: int) -> None:
        current = dramatiq.middleware.CurrentMessage.get_current_message()
        assert current
        ran.append({"id": current.message_id, "number": number, **current.options})

    old = bury(
        broker, "work", 7, retries=2, eta=12, traceback="Traceback\nValueError: x", requeue_timestamp=3, mine="stays"
    )
    assert command("replay", "--id", old.message_id) == 0
    with running(broker, "work"):
        eventually(lambda: len(ran) == 1, "it has run")
    (run_as,) = ran
    assert (run_as["id"], run_as["number"], run_as["mine"]) == (old.message_id, 7, "stays")
    assert not {"retries", "eta", "traceback", "requeue_timestamp", letters.REASON} & set(run_as)
    assert (kept(broker, "work"), broker.client.hlen(keys.messages("work"))) == (0, 0)


def test_a_replayed_message_is_not_too_old_at_once(broker: RedisBroker, home: Path) -> None:
    ran: list[int] = []

    @dramatiq.actor(queue_name="work", broker=broker, max_age=60_000)
    def act(number: int) -> None:
        ran.append(number)

    message = dramatiq.Message[Any](
        queue_name="work", actor_name="act", args=(1,), kwargs={}, options={}, message_timestamp=1
    )
    broker.enqueue(message)
    with running(broker, "work"):
        eventually(lambda: kept(broker, "work") == 1, "it is too old")
        assert command("replay", "--queue", "work") == 0
        eventually(lambda: ran == [1], "it runs")


def test_a_message_that_failed_while_it_was_delayed_is_replayed_into_its_queue(broker: RedisBroker, home: Path) -> None:
    message = broker.enqueue(
        dramatiq.Message(queue_name="work", actor_name="act", args=(), kwargs={}, options={}), delay=60_000
    )
    broker.do_fetch("work.DQ", 1)
    broker.do_nack("work.DQ", message.options["redis_message_id"])
    assert command("replay", "--id", message.message_id) == 0
    (raw,) = broker.do_fetch("work", 1)
    again: dramatiq.Message[Any] = dramatiq.Message.decode(raw)
    assert (again.queue_name, again.options) == (
        "work", {"redis_message_id": message.options["redis_message_id"]},
    )  # fmt: skip


def test_a_redis_that_refuses_the_replay_keeps_the_dead_letter(
    broker: RedisBroker, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = bury(broker, "work", 1)
    broker.client.config_set("maxmemory", "1")
    assert command("replay", "--all") == 1
    assert "Redis" in capsys.readouterr().err
    broker.client.config_set("maxmemory", "0")
    assert (kept(broker, "work"), waiting(broker, "work")) == (1, 0)
    assert command("replay", "--id", old.options["redis_message_id"]) == 0
    assert (kept(broker, "work"), waiting(broker, "work")) == (0, 1)


def test_replaying_a_letter_twice_enqueues_it_once(broker: RedisBroker) -> None:
    bury(broker, "work", 1)
    (letter,) = letters.dead_letters(broker.client, "work")
    assert [letters.replay(broker.client, letter) for _ in range(3)] == [True, False, False]
    assert waiting(broker, "work") == 1


def test_only_what_was_named_is_replayed_or_deleted(broker: RedisBroker, home: Path) -> None:
    first, second = bury(broker, "work", 1), bury(broker, "work", 2)
    bury(broker, "other", 3)
    assert command("delete", "--id", first.message_id) == 0
    assert (kept(broker, "work"), kept(broker, "other")) == (1, 1)
    assert command("delete", "--queue", "other", "--all") == 0
    assert (kept(broker, "work"), kept(broker, "other")) == (1, 0)
    assert command("delete", "--queue", "other", "--id", second.message_id) == 1
    assert command("replay", "--all") == 0
    assert (kept(broker, "work"), waiting(broker, "work"), waiting(broker, "other")) == (0, 1, 0)


def test_many_are_replayed_page_by_page_around_those_that_cannot_be(
    broker: RedisBroker, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(letters, "PAGE", 4)
    for number in range(30):
        if number % 7 == 3:
            broker.client.zadd(keys.dead("work"), {f"bad{number}": 1})
            broker.client.hset(keys.dead_messages("work"), f"bad{number}", "no message")
        else:
            bury(broker, "work", number)
    assert len(listed(capsys)) == 30
    assert command("replay", "--all", "--json") == 1
    assert json.loads(capsys.readouterr().out) == {"replayed": 26}
    assert (kept(broker, "work"), waiting(broker, "work")) == (4, 26)
    assert command("delete", "--all") == 0
    assert kept(broker, "work") == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["delete"], 2, "--id ID or --all"),
        (["delete", "--queue", "work"], 2, "--id ID or --all"),
        (["replay"], 2, "say which"),
        (["delete", "--id", "x", "--all"], 2, "not allowed with"),
        (["replay", "--all"], 1, "no dead letters"),
        (["delete", "--all", "--queue", "send"], 1, "no dead letters in send"),
        (["delete", "--id", "x"], 1, "no dead letter 'x'"),
        (["list", "--id", "x"], 1, "no dead letter 'x'"),
        (["list", "--queue", "sned"], 1, "there are expand, mail, monitor, periodic, send"),
    ],
)
def test_what_is_not_there_or_not_said_is_refused_with_the_reason(
    home: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, said: str
) -> None:
    assert command(*arguments) == code
    assert said in capsys.readouterr().err


def test_without_dead_letters_the_list_is_empty(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert listed(capsys) == []
    assert command("list", "--queue", "send") == 0
    assert capsys.readouterr().out == "no dead letters\n"


def test_long_arguments_are_cut_and_nothing_moves_the_cursor(
    broker: RedisBroker, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bury(broker, "work", "x" * 100_000, *range(1000), traceback="E: \x1b[2J\x07")
    (one,) = listed(capsys)
    assert len(json.dumps(one)) < 2000
    assert command("list") == 0
    line = capsys.readouterr().out.rstrip("\n")
    assert line.isprintable()
    assert len(line) < 400


def test_old_dead_letters_are_trimmed_and_young_ones_stay(broker: RedisBroker) -> None:
    for number in range(5):
        bury(broker, "work", number)
    week_ago = int(time.time() * 1000) - letters.KEPT_MS
    old = [id_ for id_, _ in zip(broker.client.zrange(keys.dead("work"), 0, -1), range(3), strict=False)]
    broker.client.zadd(keys.dead("work"), dict.fromkeys(old, week_ago - 1000))
    assert letters.trim(broker.client, ["work", "other"]) == 3
    assert kept(broker, "work") == 2


def test_a_letter_is_never_in_two_places_when_the_worker_is_told_twice(broker: RedisBroker) -> None:
    enqueue(broker, "work", "act")
    (raw,) = broker.do_fetch("work", 1)
    message = letters.read_message(raw)
    assert message
    consumer = Consumer(broker.client, broker.broker_id, ["work"])
    id_ = message.options["redis_message_id"]
    assert [consumer.bury("work", id_, message, "E: no") for _ in range(2)] == [True, False]
    assert consumer.put_back("work", [id_]) == 0
    assert (kept(broker, "work"), broker.client.hlen(keys.messages("work"))) == (1, 0)


def test_redis_without_an_answer_is_said(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", f"unix://{tmp_path}/nobody.sock")
    config.settings.cache_clear()
    assert command("list") == 1
    assert "Redis does not answer" in capsys.readouterr().err
    config.settings.cache_clear()
    with pytest.raises(redis.ConnectionError):
        next(letters.dead_letters(redis.Redis(unix_socket_path=f"{tmp_path}/nobody.sock"), "work"))

"""The table of queues: what it accepts, and how it says what it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

import actors.campaigns
import actors.periodic  # noqa: F401 (it brings the rest)
from actors.broker import broker
from app.config import ROOT
from app.errors import UsageError
from app.scaling.table import FOUNDATION, load_table, parse_table

MINIMAL = '[[queue]]\nname = "send"\n'
SERVICE = MINIMAL + '[[service]]\nname = "scheduler"\ncommand = "{python} {root}/bin/scheduler"\n'


def test_the_shipped_table_is_valid_and_has_the_shipped_queues() -> None:
    table = load_table(ROOT / "supervisor" / "queues.toml")

    processes = {queue.name: queue.processes for queue in table.queues}
    assert processes == {"periodic": 1, "mail": 1, "expand": 1, "send": 2, "monitor": 1}
    assert {service.name for service in table.services} == {"redis", "catcher", "queue-manager", "scheduler", "web"}


def test_in_the_shipped_table_what_the_queues_need_is_a_foundation() -> None:
    table = load_table(ROOT / "supervisor" / "queues.toml")

    foundations = {s.name for s in table.services if s.priority < FOUNDATION}
    assert foundations == {"redis", "catcher"}
    assert all(queue.priority >= FOUNDATION for queue in table.queues)


def test_in_the_shipped_table_the_clock_has_a_worker_and_a_queue_of_its_own() -> None:
    periodic = load_table(ROOT / "supervisor" / "queues.toml").queue("periodic")

    assert periodic is not None
    assert (periodic.queues, periodic.processes, periodic.max, periodic.threads) == (("periodic",), 1, 1, 1)


def test_in_the_shipped_table_the_manager_s_command_line_is_for_campaigns_only() -> None:
    table = load_table(ROOT / "supervisor" / "queues.toml")

    assert [q.name for q in table.queues if q.max > q.processes and not q.own_limits] == ["send"]
    assert {queue.target_seconds for queue in table.queues} == {600}


def test_the_shipped_table_says_of_tries_what_the_actors_do() -> None:
    table = load_table(ROOT / "supervisor" / "queues.toml")

    # Of this process, which may hold actors of other tests too.
    ours = [actor for actor in broker.actors.values() if actor.fn.__module__.startswith("actors.")]
    of_actors = {(actor.queue_name, 1 + actor.options["max_retries"]) for actor in ours}
    assert of_actors == {(queue.name, queue.tries) for queue in table.queues}


def test_a_queue_with_a_name_alone_serves_the_queue_of_that_name() -> None:
    queue = parse_table(MINIMAL).queues[0]

    assert queue.queues == ("send",)
    assert queue.processes == 1


@pytest.mark.parametrize(("priority", "nice"), [(100, 0), (200, 0), (219, 0), (220, 1), (300, 5), (580, 19), (999, 19)])
def test_nice_follows_from_the_priority(priority: int, nice: int) -> None:
    assert parse_table(f"{MINIMAL}priority = {priority}").queues[0].nice == nice


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("processes = -1", "processes = -1 is not allowed: a whole number from 0 to 100"),
        ("processes = true", "processes = True is not allowed"),
        ("processes = 1.0", "processes = 1.0 is not allowed"),
        ("processes = 3\nmax = 2", "max = 2 is not allowed: a whole number from 3"),
        ("priority = 99", "priority = 99 is not allowed: a whole number from 100 to 999"),
        ('threads = "four"', "threads = 'four' is not allowed: a whole number from 1 to 64"),
        ("timeout = 0", "timeout = 0 is not allowed"),
        ("poll = nan", "poll = nan is not allowed: a number from 0.05 to 60"),
        ("memory = 1", "memory = 1 is not allowed"),
        ("target_seconds = 0", "target_seconds = 0 is not allowed: a whole number from 1 to 86400"),
        ("target_seconds = 600.0", "target_seconds = 600.0 is not allowed: a whole number"),
        ("own_limits = 1", "own_limits = 1 is not allowed: true or false"),
        ('queues = "send"', "queues = 'send' is not allowed: a list"),
        ('queues = ["a", "a"]', "queues = ['a', 'a'] is not allowed"),
        ('queues = ["a b"]', "queues = ['a b'] is not allowed"),
        ('modules = ["os; rm"]', "modules = ['os; rm'] is not allowed"),
        ("procesess = 2", "procesess = 2 is not allowed: a known field: name, queues, processes"),
    ],
)
def test_a_bad_value_is_named_with_its_place_and_what_is_allowed(line: str, said: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_table(MINIMAL + line, "supervisor/queues.toml")

    assert str(raised.value).startswith("supervisor/queues.toml: queue 1 (send): ")
    assert said in str(raised.value)


@pytest.mark.parametrize("name", ["", "Send", "1st", "a b", "a:b", "a%b", "../x", "x" * 41, "ünder"])
def test_a_name_outside_the_safe_characters_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="queue 1: name = "):
        parse_table(f'[[queue]]\nname = "{name}"')


@pytest.mark.parametrize("name", ["campaign_18", "campaign_18-1", "send-burst-2"])
def test_the_names_that_scaling_gives_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="which scaling uses"):
        parse_table(f'[[queue]]\nname = "{name}"')


def test_a_missing_name_is_said_to_be_missing() -> None:
    with pytest.raises(UsageError, match="queue 1: name is missing"):
        parse_table("[[queue]]\nprocesses = 1")


@pytest.mark.parametrize(
    "second", ['[[queue]]\nname = "send"', '[[service]]\nname = "send"\ncommand = "true"'], ids=["queue", "service"]
)
def test_a_name_used_twice_is_refused(second: str) -> None:
    with pytest.raises(UsageError, match="name = 'send' is used twice"):
        parse_table(f"{MINIMAL}\n{second}")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('when = "sometimes"', "when = 'sometimes' is not allowed: \"embedded_redis\""),
        ("autostart = 1", "autostart = 1 is not allowed: true or false"),
        ("stop_wait = 0", "stop_wait = 0 is not allowed"),
        ("threads = 1", "threads = 1 is not allowed: a known field"),
    ],
)
def test_a_bad_value_of_a_service_is_named(line: str, said: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_table(SERVICE + line)

    assert said in str(raised.value)


@pytest.mark.parametrize("command", ["", "'unclosed", "{pyhton} x", "a ; b", "a # b"])
def test_a_command_that_cannot_be_run_as_written_is_refused(command: str) -> None:
    with pytest.raises(UsageError, match=r"service 1 \(x\): command = .* is not allowed: one line"):
        parse_table(f'{MINIMAL}[[service]]\nname = "x"\ncommand = "{command}"')


def test_text_that_is_not_toml_is_refused_with_the_line() -> None:
    with pytest.raises(UsageError, match=r"queues.toml is not valid TOML: .*line 2"):
        parse_table("[[queue]]\nname = @")


def test_a_table_without_queues_is_refused() -> None:
    with pytest.raises(UsageError, match="there is no"):
        parse_table("")


def test_a_single_bracket_is_explained() -> None:
    with pytest.raises(UsageError, match=r"write queue as \[\[queue\]\] entries"):
        parse_table('[queue]\nname = "send"')


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere.toml cannot be read"):
        load_table(tmp_path / "nowhere.toml")

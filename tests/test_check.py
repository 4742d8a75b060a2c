"""`bin/supervisor-manager check` on a real stack: what is a problem, and what is none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.config import ROOT
from app.queues.broker import make_broker
from app.queues.tickets import enqueue
from app.scaling.alerts import typed
from tests.home_stack import HomeStack, home_stack
from tests.services import need
from tests.smtp_server import SmtpServer
from tests.supervised import REDIS, queue
from tests.webhooks import receiver
from tests.working import eventually

SERVICES = """
[[service]]
name = "sleeper"
command = "sleep 100000"

[[service]]
name = "byhand"
command = "sleep 100000"
autostart = false
"""
STUBBORN = """
[[service]]
name = "stubborn"
command = "env --ignore-signal=TERM sleep 100000"
"""
BROKEN = """
[[service]]
name = "broken"
command = "sh -c 'exit 3'"
"""
TABLE = REDIS + queue("idle", 0, "backlog_alert = 2") + SERVICES


@pytest.fixture
def stack(short_directory: Path) -> Iterator[HomeStack]:
    need("redis-server")
    with home_stack(short_directory, TABLE, HTTP_BIND="127.0.0.1:1") as made:
        yield made


def check(stack: HomeStack, *options: str, code: int) -> list[str]:
    """The lines of a check whose exit code must be `code`."""
    return stack.run("supervisor-manager", "check", *options, code=code).splitlines()


def said_by_check(stack: HomeStack) -> str:
    """What a check prints, whatever its verdict."""
    command = [str(ROOT / "bin/supervisor-manager"), "check"]
    return subprocess.run(command, env=stack.environ, text=True, capture_output=True, timeout=60).stdout


def test_a_healthy_stack_is_one_line_ok(stack: HomeStack) -> None:
    stack.run("supervisor-manager", "start")
    assert check(stack, code=0) == ["OK 2 processes run, 0 wait in 1 queues"]
    assert stack.json("supervisor-manager", "check") == {"ok": True, "alerts": []}


def test_a_stack_that_is_stopping_says_how_to_wait_for_its_end(short_directory: Path) -> None:
    need("redis-server")
    with home_stack(short_directory, TABLE + STUBBORN, HTTP_BIND="127.0.0.1:1") as stack:
        stack.run("supervisor-manager", "start")
        pid = stack.pids()["stubborn"]
        assert "stubborn" in stack.run("supervisor-manager", "stop", "--wait", "1", code=1)

        remedy = "bin/supervisor-manager stop, which waits for its end, then bin/supervisor-manager start"
        assert f"ALERT: supervisord: is in state SHUTDOWN; {remedy}" in check(stack, code=1)
        assert typed(remedy) == "bin/supervisor-manager stop"

        os.kill(pid, signal.SIGKILL)
        stack.run("supervisor-manager", "stop")
        assert "everything runs" in stack.run("supervisor-manager", "start")


def test_a_stack_that_does_not_run_is_one_line(stack: HomeStack) -> None:
    stack.run("mailcrew", "db", "migrate")
    assert check(stack, code=1) == ["ALERT: supervisord: does not run; bin/supervisor-manager start"]


def test_who_stopped_a_process_makes_the_difference(stack: HomeStack) -> None:
    stack.run("supervisor-manager", "start")
    stack.supervisorctl("stop", "sleeper")
    assert check(stack, code=1) == [
        "ALERT: sleeper: is STOPPED, and not by our stop; bin/supervisor-manager start sleeper"
    ]
    stack.run("supervisor-manager", "start", "sleeper")
    stack.run("supervisor-manager", "stop", "sleeper")
    assert check(stack, code=0)[0].startswith("OK ")


def test_a_process_that_cannot_stay_up_is_named(short_directory: Path) -> None:
    with home_stack(short_directory, TABLE + BROKEN, HTTP_BIND="127.0.0.1:1") as stack:
        stack.run("supervisor-manager", "start", "--wait", "1", code=1)
        # Between two tries supervisord calls it STARTING, for a second at most.
        eventually(lambda: "ALERT: broken: is BACKOFF" in said_by_check(stack), "BACKOFF")


def test_a_backlog_and_work_without_a_worker_are_told(stack: HomeStack) -> None:
    stack.run("supervisor-manager", "start")
    broker = make_broker(stack.settings.redis_url)
    enqueue(broker, "idle", "one")
    # Just enqueued: between two workers that is nothing.
    assert check(stack, code=0) == ["OK 2 processes run, 1 wait in 1 queues"]
    id_ = broker.client.lindex("dramatiq:idle", 0)
    message = json.loads(broker.client.hget("dramatiq:idle.msgs", id_))  # type: ignore[arg-type]
    message["message_timestamp"] -= 3_600_000
    broker.client.hset("dramatiq:idle.msgs", id_, json.dumps(message))
    assert check(stack, code=1)[0].startswith("ALERT: idle: 1 tasks wait and no worker runs; give it processes")


def test_a_frozen_redis_and_a_lost_database_are_told_in_bounded_time(stack: HomeStack) -> None:
    stack.run("supervisor-manager", "start")
    redis = stack.pids()["redis"]
    stack.environ["DATABASE_URL"] = "mysql://root@127.0.0.1:1/nothing"
    os.kill(redis, signal.SIGSTOP)
    try:
        lines = check(stack, code=1)
    finally:
        os.kill(redis, signal.SIGCONT)
    assert [line.split(":")[1] for line in lines] == [" redis", " database"]


def test_a_full_disk_and_open_secrets_are_told(stack: HomeStack) -> None:
    stack.run("supervisor-manager", "start")
    lines = check(stack, "--min-free", "999999999", code=1)
    assert len(lines) == 1, "one disk, one line"
    assert "MB left (alert below 999,999,999)" in lines[0]

    stack.settings.state.chmod(0o755)
    (stack.settings.state / "admin_password").write_text("x")
    (stack.settings.state / "admin_password").chmod(0o644)
    stack.settings.logs.chmod(0o777)
    lines = check(stack, code=1)
    assert len(lines) == 3
    assert all(line.startswith("ALERT: permissions: ") for line in lines)
    assert f"chmod 700 {stack.settings.state}" in lines[0]


def test_a_setting_that_is_not_allowed_is_an_alert_too(stack: HomeStack) -> None:
    stack.environ["LEASE_SECONDS"] = "soon"
    assert check(stack, code=1)[0].startswith("ALERT: settings: LEASE_SECONDS='soon' is not allowed")


def test_new_problems_go_to_the_webhook_and_by_mail_once(stack: HomeStack) -> None:
    stack.run("mailcrew", "db", "migrate")
    with receiver() as hook, SmtpServer() as server:
        stack.environ["ALERT_SMTP"] = f"smtp://127.0.0.1:{server.port}"
        options = ("--webhook", hook.url, "--mail", "ops@example.com")
        for _ in range(3):
            check(stack, *options, code=1)
        assert [one["alerts"][0]["key"] for one in hook.posted] == ["supervisord"]
        assert server.counts()["ops@example.com"] == 1

        stack.run("supervisor-manager", "start")
        check(stack, *options, code=0)
        check(stack, *options, code=0)
        assert [one["status"] for one in hook.posted] == ["alert", "resolved"]
        assert server.counts()["ops@example.com"] == 2
        assert server.violations == []
    # Nobody there any more: said on stderr, and the check's own verdict stands.
    stack.supervisorctl("stop", "sleeper")
    said = stack.run("supervisor-manager", "check", *options, code=1)
    assert "cannot be reached" in said
    assert "tried again at the next check" in said


def test_checks_side_by_side_tell_a_problem_once(stack: HomeStack) -> None:
    stack.run("mailcrew", "db", "migrate")
    with receiver() as hook:
        command = [str(ROOT / "bin/supervisor-manager"), "check", "--webhook", hook.url]
        checks = [subprocess.Popen(command, env=stack.environ, stdout=subprocess.DEVNULL) for _ in range(4)]
        assert [one.wait(120) for one in checks] == [1, 1, 1, 1]
    assert len(hook.posted) == 1


@pytest.mark.slow
def test_a_worker_that_is_frozen_is_told(short_directory: Path) -> None:
    need("redis-server")
    with home_stack(short_directory, REDIS + queue("mail"), HTTP_BIND="127.0.0.1:1") as stack:
        stack.run("supervisor-manager", "start")
        pid = stack.pids()["mail"]
        os.kill(pid, signal.SIGSTOP)
        try:
            said = "ALERT: mail_00: runs"
            eventually(lambda: said in said_by_check(stack), "the silent worker", 100)
        finally:
            os.kill(pid, signal.SIGCONT)
        eventually(lambda: said_by_check(stack).startswith("OK"), "its return")


def test_reload_applies_the_table_and_replaces_what_runs(stack: HomeStack) -> None:
    stack.run("supervisor-manager", "start")
    before = stack.pids()
    (stack.home / "queues.toml").write_text(TABLE.replace('"byhand"', '"another"'))

    said = stack.run("supervisor-manager", "reload")

    assert "another: added" in said
    after = stack.pids()
    assert after["redis"] == before["redis"], "a foundation is not replaced"
    assert after["sleeper"] != before["sleeper"]

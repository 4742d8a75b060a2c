"""`bin/mailcrew check`: every problem of settings, services, table, permissions and machine; sums of processes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from app.cli.check import Report, as_document, examine
from app.config import ROOT, Settings, read_settings
from app.db import Db, connect
from app.scaling.declared import declared
from app.scaling.lint import lint
from app.scaling.table import parse_table
from app.watch.machine import holder_is_ours, limit_alerts, port_alerts
from app.watch.services import ask_database, ask_redis, database_alerts, redis_alerts
from tests.home_stack import HomeStack, home_stack
from tests.services import need
from tests.supervised import REDIS, queue
from tests.working import eventually

#: Nobody listens there, and nobody may.
ENVIRON = {"HTTP_BIND": "127.0.0.1:65533"}


@pytest.fixture
def environ(tmp_path: Path, db: Db, database_url: str) -> dict[str, str]:
    """Settings of a home with a migrated database, on each of the two kinds."""
    return {**ENVIRON, "MAILCREW_HOME": str(tmp_path / "home"), "DATABASE_URL": database_url}


@pytest.fixture
def stack(short_directory: Path) -> Iterator[HomeStack]:
    need("redis-server")
    with home_stack(short_directory, REDIS + queue("idle", 0), **ENVIRON) as made:
        yield made


def keys(report: Report) -> list[str]:
    return [alert.key for alert in report.problems]


def test_what_is_set_up_well_has_no_problem(environ: dict[str, str], tmp_path: Path) -> None:
    need("redis-server")
    small = tmp_path / "queues.toml"
    small.write_text((ROOT / "supervisor" / "queues.toml").read_text().replace("max = 20", "max = 4"))
    report = examine({**environ, "QUEUES_FILE": str(small)}, ROOT)
    assert keys(report) == []
    document = as_document(report)
    assert document["ok"] is True
    assert document["processes"]["floor"] < document["processes"]["max"]


def test_every_setting_that_is_not_allowed_is_listed(tmp_path: Path) -> None:
    wrong = {"SEND_BATCH_SIZE": "0", "LEASE_SECONDS": "soon", "ALERT_MAIL": "nobody", "ALERT_WEBHOOK": "ftp://x"}
    report = examine({"MAILCREW_HOME": str(tmp_path), **wrong}, ROOT)
    assert keys(report) == [
        "setting:SEND_BATCH_SIZE", "setting:LEASE_SECONDS", "setting:ALERT_WEBHOOK", "setting:ALERT_MAIL",
    ]  # fmt: skip


def test_several_problems_are_all_listed_with_exit_1(tmp_path: Path) -> None:
    table = tmp_path / "queues.toml"
    table.write_text('[[queue]]\nname = "send"\nthreads = 0\n')
    environ = {
        **os.environ, **ENVIRON, "MAILCREW_HOME": str(tmp_path / "home"), "QUEUES_FILE": str(table),
        "DATABASE_URL": "mysql://root@127.0.0.1:1/nothing", "REDIS_URL": "redis://127.0.0.1:1/0",
    }  # fmt: skip
    done = subprocess.run(
        [str(ROOT / "bin/mailcrew"), "check"], env=environ, text=True, capture_output=True, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr == ""
    for what in ("queues", "database", "redis"):
        assert f"PROBLEM  {what}" in done.stdout
    assert "threads = 0 is not allowed" in done.stdout
    assert "3 problems" in done.stdout


def test_a_database_without_its_tables_is_told(tmp_path: Path) -> None:
    path = tmp_path / "empty.db"
    connect(f"sqlite:///{path}").value("SELECT 1")
    facts = ask_database(f"sqlite:///{path}")
    assert facts.missing[0] == "0001_campaigns"
    assert [alert.key for alert in database_alerts(facts, None)] == ["database:migrations"]


def test_a_mysql_that_may_forget_or_grants_too_few_connections_is_told(mariadb: str) -> None:
    root = connect(mariadb.format(name="mysql"))
    try:
        root.run("SET GLOBAL innodb_flush_log_at_trx_commit = 2")
        facts = ask_database(mariadb.format(name="mysql"))
    finally:
        root.run("SET GLOBAL innodb_flush_log_at_trx_commit = 1")
        root.close()
    assert facts.max_connections == 200
    found = {alert.key: alert.line for alert in database_alerts(facts, 500)}
    assert "innodb_flush_log_at_trx_commit=2" in found["database:flush"]
    assert "set max_connections=505" in found["database:connections"]
    mended = ask_database(mariadb.format(name="mysql"))
    assert {a.key for a in database_alerts(mended, 195)} == {"database:migrations"}


def test_a_redis_that_forgets_is_told(settings: Settings) -> None:
    said = ask_redis(settings, 5)
    # The tests' own Redis has no append-only file.
    assert [alert.key for alert in redis_alerts(said)] == ["redis:aof"]
    client = redis.Redis.from_url(settings.redis_url)
    try:
        client.config_set("maxmemory-policy", "allkeys-lru")
        assert [alert.key for alert in redis_alerts(ask_redis(settings, 5))] == ["redis:policy", "redis:aof"]
    finally:
        client.config_set("maxmemory-policy", "noeviction")
        client.close()
    assert "redis:version" in [alert.key for alert in redis_alerts({**said, "redis_version": "6.0.16"})]
    assert "redis:version" not in [alert.key for alert in redis_alerts({**said, "redis_version": "6.2.0"})]


def test_what_is_shipped_passes_its_own_lint(stack: HomeStack) -> None:
    stack.run("supervisor-manager", "render")
    assert keys(examine(stack.environ, ROOT)) == ["database"]


def test_mistakes_in_the_files_of_a_home_are_found(stack: HomeStack) -> None:
    stack.run("mailcrew", "db", "migrate")
    stack.run("supervisor-manager", "render")
    conf = stack.settings.conf_d
    text = (conf / "idle.conf").read_text()
    mistaken = text.replace("stopsignal=TERM", "stopsignal=TERM\nstopasgroup=true").replace(
        "stopwaitsecs=", "stopwaitsecs=1 ;"
    )
    (conf / "idle.conf").write_text(mistaken)
    (conf / "mine.conf").write_text("[program:redis]\ncommand=sleep 1\n")
    (conf / "odd.conf").write_text("no section\n")

    report = examine(stack.environ, ROOT)

    assert sorted(keys(report)) == [
        "lint:conf.d/odd.conf", "lint:stopasgroup:idle", "lint:stopwaitsecs:idle", "lint:twice:redis",
    ]  # fmt: skip
    assert [alert.key for alert in report.warnings] == ["old"]


def test_stopwaitsecs_must_be_longer_than_the_longest_task() -> None:
    table = parse_table(queue("slow", 1).replace("timeout = 5", "timeout = 300"))

    def problems(seconds: int) -> list[str]:
        text = f"[program:slow]\nstopwaitsecs={seconds} ; of ours\n"
        return [alert.key for alert in lint({"conf.d/slow.conf": text}, table, 120)]

    assert problems(310) == ["lint:stopwaitsecs:slow"]
    assert problems(311) == []


def test_a_port_is_free_or_held_by_us(stack: HomeStack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        found = read_settings({**stack.environ, "HTTP_BIND": f"127.0.0.1:{port}"})
        assert [alert.key for alert in port_alerts(found)] == ["port:http"]
        # A process of the home: one that supervisord started there.
        holder = subprocess.Popen(
            ["sleep", "100"], pass_fds=[listener.fileno()],
            env={**os.environ, "MAILCREW_HOME": str(stack.home), "SUPERVISOR_GROUP_NAME": "web"},
        )  # fmt: skip
        try:
            # The kernel shows a fresh process's environment a moment later.
            eventually(lambda: holder_is_ours(stack.home, port), "it is one of ours")
            assert port_alerts(found) == []
        finally:
            holder.kill()
            holder.wait()
    assert port_alerts(found) == []


GIFTSHOP = """
[[queue]]
name = "exchange"
processes = 4
max = 6
memory = 256
[[queue]]
name = "mail"
processes = 0
max = 9
memory = 1000
[[service]]
name = "clock"
command = "sleep 1"
[[service]]
name = "byhand"
command = "sleep 1"
autostart = false
[[service]]
name = "redis"
command = "sleep 1"
when = "embedded_redis"
"""


def test_the_sums_count_what_starts_by_itself() -> None:
    sums = declared(parse_table(GIFTSHOP), redis_is_embedded=False)
    assert (sums.processes, sums.max_processes) == (5, 7)
    assert (sums.memory_mb, sums.max_memory_mb) == (4 * 256 + 128, 6 * 256 + 128)
    assert declared(parse_table(GIFTSHOP), redis_is_embedded=True).processes == 6


def test_limits_that_are_too_low_are_told() -> None:
    huge = parse_table(queue("many", 100).replace("[[queue]]", "[[queue]]\nmax = 1000\nthreads = 64"))
    sums = declared(huge, redis_is_embedded=False)
    code = (
        "import json, resource; from app.watch.machine import limit_alerts; from app.scaling.table import Table;"
        "from app.scaling.declared import Declared;"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256));"
        f"print(json.dumps([a.key for a in limit_alerts(Table((), ()), Declared(0, {sums.max_processes}, 0, 0, 0))]))"
    )
    said = subprocess.run(
        [str(ROOT / ".venv/bin/python"), "-c", code], cwd=ROOT, text=True, capture_output=True, check=True
    )
    found: list[Any] = json.loads(said.stdout)
    assert found == ["limit:files"]
    assert limit_alerts(parse_table(queue("one")), declared(parse_table(queue("one")), False)) == []


def test_memory_that_the_machine_does_not_have_is_a_warning(stack: HomeStack) -> None:
    (stack.home / "queues.toml").write_text(REDIS + queue("idle", 2, "memory = 1000000\nmax = 3"))
    stack.run("mailcrew", "db", "migrate")
    document = json.loads(stack.run("mailcrew", "check", "--json"))
    assert document["ok"] is True
    assert document["processes"] == {"floor": 3, "max": 4}
    assert [one["key"] for one in document["warnings"]] == ["memory"]
    assert "3 processes may take 2000.13 GB" in document["warnings"][0]["what"]

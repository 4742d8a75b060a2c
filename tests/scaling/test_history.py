"""The manager's decisions in the database: changes always, the rest once a minute, nothing older than a month."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from app.config import ROOT
from app.db import Db, connect
from app.db.connection import DatabaseTrouble
from app.scaling.history import KEEP_MS, History, Record, last_decisions, prune

NOW = 1_790_000_000_000

QUIET = Record(
    at=NOW, host="a", queue="send", workers=2, target=2, backlog=7, in_flight=3, oldest_seconds=1.5, rate=12.5,
    bound_by=None, reason="backlog 7, 1 wanted at 10 a worker",
)  # fmt: skip


def after(seconds: float, **changes: object) -> Record:
    return replace(QUIET, at=NOW + int(seconds * 1000), **changes)  # type: ignore[arg-type]


def test_a_change_is_always_kept_and_the_rest_once_a_minute(db: Db) -> None:
    history = History()
    for seconds in range(0, 130, 10):
        target = 4 if seconds == 30 else 2
        history.keep(db, [after(seconds, target=target), after(seconds, queue="mail")])

    assert [(r.at - NOW) // 1000 for r in last_decisions(db, 100, "send")] == [0, 30, 90]
    assert [(r.at - NOW) // 1000 for r in last_decisions(db, 100, "mail")] == [0, 60, 120]


def test_what_was_kept_is_read_back_whole_the_newest_last(db: Db) -> None:
    unknown = after(
        1, queue="mail", target=0, backlog=None, in_flight=None, oldest_seconds=None, rate=None, bound_by="max"
    )
    History().keep(db, [QUIET, unknown])

    assert last_decisions(db, 10) == [QUIET, unknown]
    assert last_decisions(db, 1) == [unknown]
    assert last_decisions(db, 10, "other") == []


def test_a_reason_that_is_too_long_is_cut_and_not_refused(db: Db) -> None:
    History().keep(db, [after(0, reason="x" * 900, bound_by="y" * 900)])

    [record] = last_decisions(db, 1)
    assert (len(record.reason), len(record.bound_by or "")) == (500, 100)


def test_the_command_says_which_migrations_are_missing(database_url: str, tmp_path: Path) -> None:
    environ = {**os.environ, "MAILCREW_HOME": str(tmp_path / "home"), "DATABASE_URL": database_url}
    command = [str(ROOT / "bin" / "queue-manager"), "--history"]
    done = subprocess.run(command, env=environ, text=True, capture_output=True, timeout=60)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("queue-manager: the database lacks 0001_campaigns, ")
    assert done.stderr.endswith("; run bin/mailcrew db migrate\n")


def test_what_is_older_than_a_month_goes(db: Db) -> None:
    history = History()
    history.keep(db, [QUIET])
    history.keep(db, [after(30)])
    later = replace(QUIET, at=NOW + KEEP_MS + 1000)

    history.keep(db, [later])

    assert last_decisions(db, 10) == [later]
    assert prune(db, NOW) == 0


def test_what_cannot_be_written_is_written_with_the_next(db: Db) -> None:
    history = History()
    away = connect("mysql://root@localhost/x?unix_socket=/nowhere/mysql.sock")
    with pytest.raises(DatabaseTrouble):
        history.keep(away, [after(0, target=4)])
    with pytest.raises(DatabaseTrouble):
        history.keep(away, [after(10, workers=4, target=6)])

    assert history.keep(db, [after(20, workers=6, target=6)]) == 2, "the third changed nothing and was too soon"
    assert [(r.workers, r.target) for r in last_decisions(db, 10)] == [(2, 4), (4, 6)]

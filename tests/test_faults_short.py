"""The fault matrix in short: its main rows, and that it fails when a safeguard is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import dramatiq
import pytest

from tests.faults.arena import run_row
from tests.faults.main import main
from tests.faults.matrix import Form
from tests.faults.report import write
from tests.faults.rows import ROWS
from tests.faults.verdict import Result
from tests.services import need

#: (row, database, broken safeguard): what is run, four at a time, because a run mostly waits.
WHOLE = [
    ("kill9-workers", "sqlite", None),
    ("kill9-workers", "mysql", None),
    ("stop-at-gap:before-journal", "sqlite", None),
    ("smtp-drop-after-dot", "sqlite", None),
    ("redis-flushed", "mysql", None),
]
BROKEN = [
    ("kill9-workers", "sqlite", "journal"),
    ("stop-at-gap:before-journal", "sqlite", "lock"),
    ("kill9-workers", "sqlite", "sweep"),
]
Run = tuple[str, str, str | None]


def run(one: Run) -> Result:
    row, database, without = one
    # Without a safeguard the campaign may never end, and need not: what went wrong shows before.
    form = Form(database, recipients=600, seconds=4, deadline=25 if without else 60)
    result = run_row(ROWS[row], form, without=without)
    # The faults come at random: that a safeguard is needed shows in one of a few runs, not in each.
    for _ in range(3):
        if without not in ("journal", "lock") or result.duplicated:
            break
        result = run_row(ROWS[row], form, without=without)
    return result


@pytest.fixture(scope="module")
def result_of() -> Iterator[Callable[[Run], Result]]:
    for program in ("redis-server", "mariadbd", "mariadb-install-db"):
        need(program)
    before = dramatiq.broker.global_broker
    with ThreadPoolExecutor(4) as pool:
        started: dict[Run, Future[Result]] = {one: pool.submit(run, one) for one in WHOLE + BROKEN}
        yield lambda one: started[one].result()
        for future in started.values():
            future.cancel()
    dramatiq.broker.global_broker = before


@pytest.mark.parametrize("one", WHOLE, ids=lambda one: f"{one[0]}-{one[1]}")
def test_no_mail_is_lost_or_sent_twice(result_of: Callable[[Run], Result], one: Run) -> None:
    result = result_of(one)
    assert result.verdict == "passed", result.line()
    assert result.faults > 0, "nothing went wrong, so nothing was shown"


def test_without_the_journal_mails_go_twice(result_of: Callable[[Run], Result]) -> None:
    assert result_of(BROKEN[0]).duplicated > 0


def test_without_the_lock_a_stopped_worker_repeats_its_mail(result_of: Callable[[Run], Result]) -> None:
    assert result_of(BROKEN[1]).duplicated > 0


def test_without_the_sweep_the_campaign_is_never_sent(result_of: Callable[[Run], Result]) -> None:
    result = result_of(BROKEN[2])
    assert result.verdict == "FAILED"
    assert result.status == "sending"


def test_a_new_result_takes_the_place_of_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.faults.report.PAGE", tmp_path / "docs" / "faults.md")
    old = Result("sigstop", "sqlite", 600, status="sending", lost=3)
    other = Result("redis-flushed", "mysql", 600, status="sent")
    write([old, other], "2026-01-01", "abc")
    write([Result("sigstop", "sqlite", 600, status="sent")], "2026-02-02", "def")
    lines = [line for line in (tmp_path / "docs" / "faults.md").read_text().splitlines() if line.startswith("| sig")]
    assert len(lines) == 1
    assert "passed" in lines[0]
    assert "2026-02-02" in lines[0]


def test_a_row_that_does_not_exist_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["kill10-workers"])
    assert ended.value.code == 2
    assert "kill10-workers" in capsys.readouterr().err


def test_every_row_says_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(ROWS)
    assert all(len(line.split(maxsplit=1)) == 2 for line in lines)

"""The fault matrix in short: its main rows, and that it fails when a safeguard is missing."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import dramatiq
import pytest

from tests.faults.arena import run_row
from tests.faults.main import main
from tests.faults.matrix import Form
from tests.faults.one import Job
from tests.faults.parallel import run_all
from tests.faults.proof import PROOFS, shows
from tests.faults.report import write
from tests.faults.rows import ROWS
from tests.faults.verdict import Result
from tests.services import need

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

#: (row, database, broken safeguard): what is run, three at a time, because a run mostly waits.
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
    ("db-answers-lost", "sqlite", "fence"),
]
Run = tuple[str, str, str | None]


def run(one: Run) -> Result:
    row, database, without = one
    # Without a safeguard the campaign may never end, and need not: what went wrong shows before.
    deadline, faults_for = (40, 20) if without else (240, 30)
    form = Form(database, recipients=600, seconds=4, deadline=deadline, faults_for=faults_for)
    result = run_row(ROWS[row], form, without=without)
    # The faults come at random: that a safeguard is needed shows in one of a few runs, not in each.
    for _ in range(3):
        if shows(without or "", result) and result.faults:
            break
        result = run_row(ROWS[row], form, without=without)
    return result


@pytest.fixture(scope="module")
def result_of() -> Iterator[Callable[[Run], Result]]:
    for program in ("redis-server", "mariadbd", "mariadb-install-db"):
        need(program)
    before = dramatiq.broker.global_broker
    with ThreadPoolExecutor(3) as pool:
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


def test_without_the_fence_a_batch_is_ended_for_somebody_else(result_of: Callable[[Run], Result]) -> None:
    result = result_of(BROKEN[3])
    assert result.duplicated + result.lost + result.wrong > 0, result.line()


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


def test_soak_and_proofs_have_sections_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.faults.report.PAGE", tmp_path / "docs" / "faults.md")
    whole = Result("kill9-workers", "sqlite", 600, status="sent")
    soak = Result("soak", "mysql", 600, faults=7, status="sent", kinds={"TERM": 3, "kill -9": 4})
    twice = Result("kill9-workers", "sqlite", 600, status="sent", duplicated=5, without="journal")
    once = Result("kill9-workers", "mysql", 600, status="sent", without="journal")
    write([whole, soak, twice, once], "2026-01-01", "abc")
    # A part written later leaves the others where they are.
    write([Result("sigstop", "sqlite", 600, status="sent")], "2026-02-02", "def")
    text = (tmp_path / "docs" / "faults.md").read_text()
    matrix, rest = text.split("## The soak")
    soaked, proven = rest.split("## That the matrix can fail")
    assert matrix.count("| kill9-workers |") == 1
    assert "soak" not in matrix.split("## What")[0].split("|---")[1]
    assert "### mysql, 2026-01-01 (abc): passed" in soaked
    assert "| kill -9 | 4 |" in soaked
    proofs = [line for line in proven.splitlines() if line.startswith("| journal |")]
    assert ["did not fail" in line for line in sorted(proofs)] == [True, False]


def test_what_still_runs_ends_tidily_when_the_rest_is_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    need("redis-server")
    with tempfile.TemporaryDirectory(prefix="mcf") as directory:
        monkeypatch.setenv("TMPDIR", directory)
        short, long = (
            Job("term-workers", Form("sqlite", 200, seconds=s, deadline=600, faults_for=10)) for s in (1, 600)
        )
        with closing(run_all([long, short], at_once=2)) as coming:
            first = next(coming)
            assert first.verdict == "passed", first.line()
            assert len(list(Path(directory).iterdir())) == 1
        assert list(Path(directory).iterdir()) == []


def test_a_proof_that_fails_in_another_way_proves_nothing() -> None:
    late = Result("kill9-workers", "sqlite", 600, status="sending", lost=9)
    assert not PROOFS["journal"].shows(late)
    assert PROOFS["sweep"].shows(late)
    assert not PROOFS["fence"].shows(late)


@pytest.mark.parametrize("argv", [["--soak", "--proof"], ["--soak", "sigstop"], ["--jobs", "0"], ["--minutes", "0"]])
def test_what_does_not_go_together_is_wrong_usage(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2
    assert argv[0] in capsys.readouterr().err


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

"""Imports as jobs: nothing is lost or counted twice, whoever stops, dies or takes over in between."""

from __future__ import annotations

import csv
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from app.config import Settings
from app.db import Db
from app.errors import NotFound, Refused, UsageError
from app.lists import import_run, importing, jobs
from app.lists.import_run import Run, work_off
from app.lists.jobs import (
    Import,
    cancel_import,
    find_import,
    imports,
    rejects_path,
    something_to_import,
    submit,
    take_next,
)
from app.lists.memberships import find_or_create_list
from app.models.states import ImportState

NOW = 1_790_000_000_000


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "ROWS_A_CHUNK", 10)


def upload(db: Db, settings: Settings, text: str, name: str = "people.csv") -> int:
    """Have a file imported into the list `news`; the import's id."""
    settings.uploads.mkdir(exist_ok=True)
    stored = f"u{len(list(settings.uploads.iterdir()))}-{time.monotonic_ns()}"
    (settings.uploads / stored).write_text(text)
    news = find_or_create_list(db, "news")
    return submit(db, settings, stored, list_id=news, file_name=name, encoding=None, who="me", now=db.now_ms())


def rows(count: int, bad_every: int = 0) -> str:
    """A file of so many rows; every so manyth of them has no address."""
    lines = (f"nobody{i}" if bad_every and i % bad_every == 0 else f"u{i}@x.test" for i in range(1, count + 1))
    return "email\n" + "".join(f"{line}\n" for line in lines)


def figures(found: Import) -> tuple[int, int, int, int, int]:
    assert found.rows_read == found.created + found.updated + found.unchanged + found.rejected
    return found.rows_read, found.created, found.updated, found.unchanged, found.rejected


def members(db: Db) -> int:
    return int(db.value("SELECT COUNT(*) FROM memberships WHERE status = 'active'"))


def rejected_lines(settings: Settings, import_id: int) -> list[int]:
    with rejects_path(settings, import_id).open(newline="") as file:
        header, *found = csv.reader(file)
    assert header == ["line", "reason", "row"]
    return [int(line) for line, _, _ in found]


def stops_after(db: Db, import_id: int, count: int) -> threading.Event:
    """An event that is set as soon as so many rows are in."""

    class Stop(threading.Event):
        def is_set(self) -> bool:
            return super().is_set() or find_import(db, import_id).rows_read >= count

    return Stop()


def test_an_uploaded_file_becomes_people_on_a_list(db: Db, settings: Settings) -> None:
    import_id = upload(db, settings, rows(25, bad_every=10))
    assert find_import(db, import_id).state is ImportState.WAITING
    assert something_to_import(db, db.now_ms())

    assert work_off(db, settings, threading.Event()) == 1

    done = find_import(db, import_id)
    assert (done.state, done.error, figures(done)) == (ImportState.DONE, None, (25, 23, 0, 0, 2))
    assert done.bytes_read == done.size
    assert (done.started_at or 0) <= (done.finished_at or 0)
    assert members(db) == 23
    assert rejected_lines(settings, import_id) == [11, 21]
    assert rejects_path(settings, import_id).stat().st_mode & 0o777 == 0o600
    assert list(settings.uploads.iterdir()) == []
    assert not something_to_import(db, db.now_ms())


def test_a_file_that_cannot_be_used_is_refused_before_it_waits(db: Db, settings: Settings) -> None:
    with pytest.raises(UsageError, match="no column holds the address"):
        upload(db, settings, "name,city\nAnn,Oslo\n")
    assert imports(db, 10) == []


def test_imports_are_done_one_after_another_the_oldest_first(db: Db, settings: Settings) -> None:
    ids = [upload(db, settings, rows(3)) for _ in range(3)]
    first = take_next(db, settings, db.now_ms())
    assert first is not None
    assert first.id == ids[0]
    assert take_next(db, settings, db.now_ms()) is None, "one at a time"
    Run(db, settings, first).go(threading.Event())
    assert work_off(db, settings, threading.Event()) == 2
    assert [figures(one) for one in imports(db, 10)] == [(3, 0, 0, 3, 0), (3, 0, 0, 3, 0), (3, 3, 0, 0, 0)]


def test_a_worker_that_is_to_stop_leaves_it_and_the_next_one_goes_on_there(db: Db, settings: Settings) -> None:
    import_id = upload(db, settings, rows(95, bad_every=7))
    work_off(db, settings, stops_after(db, import_id, 40))
    left = find_import(db, import_id)
    assert left.state is ImportState.WAITING
    assert 40 <= left.rows_read < 60

    work_off(db, settings, threading.Event())

    assert figures(find_import(db, import_id)) == (95, 82, 0, 0, 13)
    assert rejected_lines(settings, import_id) == [1 + i for i in range(7, 96, 7)]
    assert members(db) == 82


def test_who_was_silent_for_a_whole_lease_writes_nothing_more(db: Db, settings: Settings) -> None:
    import_id = upload(db, settings, rows(60, bad_every=9))
    silent = take_next(db, settings, db.now_ms())
    assert silent is not None
    late = db.now_ms() + settings.lease_seconds * 1000 + 1
    other = take_next(db, settings, late)
    assert other is not None
    assert (other.id, other.token == silent.token) == (import_id, False)

    Run(db, settings, silent).go(threading.Event())

    untouched = find_import(db, import_id)
    assert (untouched.state, untouched.rows_read, untouched.token) == (ImportState.RUNNING, 0, other.token)
    assert members(db) == 0
    assert not rejects_path(settings, import_id).exists()
    Run(db, settings, other).go(threading.Event())
    assert figures(find_import(db, import_id)) == (60, 54, 0, 0, 6)
    assert rejected_lines(settings, import_id) == [1 + i for i in range(9, 61, 9)]


def test_a_row_that_was_refused_before_a_crash_is_told_once(db: Db, settings: Settings) -> None:
    import_id = upload(db, settings, rows(30, bad_every=4))
    work_off(db, settings, stops_after(db, import_id, 10))
    with rejects_path(settings, import_id).open("a") as file:
        file.write("99,of a chunk that was rolled back,x\n")
    work_off(db, settings, threading.Event())
    assert rejected_lines(settings, import_id) == [5, 9, 13, 17, 21, 25, 29]


def test_an_import_whose_workers_die_again_and_again_is_given_up(db: Db, settings: Settings) -> None:
    import_id = upload(db, settings, rows(5))
    now = db.now_ms()
    for _ in range(jobs.MOST_TRIES):
        assert take_next(db, settings, now) is not None
        now += settings.lease_seconds * 1000 + 1
    assert take_next(db, settings, now) is None
    failed = find_import(db, import_id)
    assert failed.state is ImportState.FAILED
    assert failed.error == "3 workers ended at row 1 without getting further"


def test_who_gets_further_is_not_given_up(db: Db, settings: Settings) -> None:
    import_id = upload(db, settings, rows(100))
    for count in (10, 20, 30, 40, 50):
        taken = take_next(db, settings, db.now_ms())
        assert taken is not None
        Run(db, settings, taken).go(stops_after(db, import_id, count))
    work_off(db, settings, threading.Event())
    assert figures(find_import(db, import_id)) == (100, 100, 0, 0, 0)


def test_a_cancelled_import_goes_no_further(db: Db, settings: Settings) -> None:
    import_id = upload(db, settings, rows(100))
    taken = take_next(db, settings, db.now_ms())
    assert taken is not None

    class Cancelling(threading.Event):
        def is_set(self) -> bool:
            if find_import(db, import_id).rows_read >= 20:
                try:
                    cancel_import(db, import_id, db.now_ms())
                except Refused:
                    pass
            return False

    Run(db, settings, taken).go(Cancelling())

    ended = find_import(db, import_id)
    assert (ended.state, ended.rows_read, ended.token) == (ImportState.CANCELLED, 20, None)
    assert members(db) == 20
    with pytest.raises(Refused, match=f"import {import_id} is cancelled already"):
        cancel_import(db, import_id, NOW)
    with pytest.raises(NotFound):
        cancel_import(db, import_id + 1, NOW)


def test_an_upload_of_another_machine_is_left_to_it(db: Db, settings: Settings, tmp_path: Path) -> None:
    upload(db, settings, rows(5))
    elsewhere = replace(settings, home=tmp_path / "elsewhere")
    assert work_off(db, elsewhere, threading.Event()) == 0
    assert something_to_import(db, db.now_ms())
    assert work_off(db, settings, threading.Event()) == 1


def test_a_file_that_has_gone_is_told(db: Db, settings: Settings) -> None:
    import_id = upload(db, settings, rows(5))
    next(settings.uploads.iterdir()).unlink()
    work_off(db, settings, threading.Event())
    failed = find_import(db, import_id)
    assert failed.state is ImportState.FAILED
    assert failed.error == "the uploaded file is not there any more: import it again"


def test_what_broken_uploads_leave_behind_is_removed(db: Db, settings: Settings) -> None:
    settings.uploads.mkdir()
    for name, age in (("old", import_run.KEEP_FILE_SECONDS + 60), ("fresh", 0)):
        (settings.uploads / name).write_text("half a file")
        os.utime(settings.uploads / name, (time.time() - age,) * 2)
    waiting = upload(db, settings, rows(2))
    stored = find_import(db, waiting).stored
    os.utime(settings.uploads / stored, (1, 1))
    stop = threading.Event()
    stop.set()
    work_off(db, settings, stop)
    assert {path.name for path in settings.uploads.iterdir()} == {"fresh", stored}


def test_the_rate_and_what_is_left_are_told_while_it_runs(db: Db, settings: Settings) -> None:
    import_id = upload(db, settings, rows(200))
    work = stops_after(db, import_id, 100)
    taken = take_next(db, settings, db.now_ms())
    assert taken is not None
    seen: list[Import] = []

    class Watching(threading.Event):
        def is_set(self) -> bool:
            seen.append(find_import(db, import_id))
            return work.is_set()

    Run(db, settings, taken).go(Watching())
    last = seen[-1]
    assert last.state is ImportState.RUNNING
    assert (last.rate or 0) > 0
    assert last.eta_seconds is not None
    assert last.eta_seconds >= 0

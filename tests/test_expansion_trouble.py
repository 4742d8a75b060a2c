"""An expansion and a database in trouble: it waits, says why, goes on at its cursor; only what stays is a failure."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import peewee
import pymysql
import pytest

from app.campaigns.expand_task import expand_campaign
from app.campaigns.expansion import MAX_FAILURES
from app.campaigns.progress import progress_of
from app.config import Settings
from app.db import Db, connect
from app.db.trouble import passes_by_itself
from app.mail.servers import add_server
from app.models.tables import Campaign, Expansion, Recipient
from tests.faults.disks import fill, mount
from tests.faults.matrix import Skipped
from tests.sending import NOW, add_list, add_people, draft, start
from tests.test_expansion import check_exact
from tests.working import eventually

pytestmark = pytest.mark.slow

PEOPLE = 400
#: How long the expander waits for a lock, in seconds.
PATIENCE = 1


@pytest.fixture
def campaign(db: Db) -> int:
    add_server(name="sink", host="127.0.0.1", port=25, tls="none", now=NOW)
    add_list(db, "all", add_people(db, PEOPLE))
    campaign_id = draft(db, ["all"])
    start(db, campaign_id)
    return campaign_id


class Expanding:
    """An expansion on a thread with connections of its own, 20 members a step; `pace()` is called after each."""

    def __init__(self, settings: Settings, campaign_id: int, pace: Callable[[], object] = lambda: None) -> None:
        self.told: list[str] = []
        self.stop = threading.Event()
        self.error: Exception | None = None
        self._settings = Settings(**{**settings.__dict__, "expand_batch_size": 20, "send_batch_size": 10})
        self._campaign = campaign_id
        self._pace = pace
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Expanding:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        # MySQL's client would take this for the longest a statement may last; there `short_locks` has the server
        # say no.
        url = self._settings.database_url
        db = connect(url, PATIENCE) if url.startswith("sqlite") else connect(url)
        try:
            expand_campaign(db, self._settings, self._campaign, self.stop, self._pace, self.told.append)
        except Exception as error:
            self.error = error
        finally:
            db.close()

    def end(self) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive()


@contextmanager
def locked(db: Db, url: str, campaign_id: int) -> Iterator[None]:
    """Somebody holds what the expansion writes: on SQLite the file, on MySQL the expansion's row."""
    other = connect(url)
    with other.transaction():
        row = " FOR UPDATE" if db.dialect == "mysql" else ""
        other.rows(f"SELECT state FROM expansions WHERE campaign_id = ?{row}", campaign_id)
        yield
    other.close()


@pytest.fixture
def short_locks(db: Db) -> Iterator[None]:
    """MySQL waits 50 seconds for a row; as long as that, several times over, is how long the lock is held here."""
    if db.dialect == "mysql":
        db.run(f"SET GLOBAL innodb_lock_wait_timeout = {PATIENCE}")
    yield
    if db.dialect == "mysql":
        db.run("SET GLOBAL innodb_lock_wait_timeout = 50")


@pytest.mark.usefixtures("short_locks")
def test_a_lock_held_for_more_tries_than_failures_are_allowed_costs_nothing(
    db: Db, settings: Settings, campaign: int
) -> None:
    reached, go = threading.Event(), threading.Event()

    def pace() -> None:
        reached.set()
        go.wait(60)

    with Expanding(settings, campaign, pace) as expanding:
        assert reached.wait(60)
        with locked(db, settings.database_url, campaign):
            go.set()
            # Told twice a try.
            eventually(lambda: len(expanding.told) > 2 * MAX_FAILURES, "it tried often enough to be given up", 120)
            assert Expansion.get_by_id(campaign).failures == 0
            assert Campaign.get_by_id(campaign).status == "sending"
            word = "locked" if db.dialect == "sqlite" else "2013|1205|Lost|Lock"
            assert any(part in expanding.told[-1] for part in word.split("|")), expanding.told
        expanding.end()
        assert expanding.error is None
        assert expanding.told[-1] == "", "it says that the trouble is over"
    check_exact(db, campaign, PEOPLE)
    expansion = Expansion.get_by_id(campaign)
    assert (expansion.state, expansion.failures, expansion.error) == ("done", 0, None)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    try:
        away = mount(disk, "8m")
    except Skipped as reason:
        pytest.skip(str(reason))
    yield disk
    away()


class TestOnASmallDisk:
    """A disk that is really full; MariaDB's is in the fault matrix (disk-full-database), as it may abort then."""

    @pytest.fixture
    def database_url(self, small_disk: Path) -> str:
        return f"sqlite:///{small_disk / 'test.db'}"

    def test_a_full_disk_is_waited_for(self, db: Db, settings: Settings, campaign: int, small_disk: Path) -> None:
        reached, go = threading.Event(), threading.Event()

        def pace() -> None:
            reached.set()
            go.wait(60)

        with Expanding(settings, campaign, pace) as expanding:
            assert reached.wait(60)
            # What the log has room for already is used up by a checkpoint that starts it anew.
            db.rows("PRAGMA wal_checkpoint(TRUNCATE)")
            ballast = fill(small_disk)
            go.set()
            eventually(lambda: len(expanding.told) > 2 * MAX_FAILURES, "it tried often enough to be given up", 120)
            assert "full" in expanding.told[-1] or "disk I/O" in expanding.told[-1]
            ballast.unlink()
            expanding.end()
            assert expanding.error is None
        check_exact(db, campaign, PEOPLE)
        expansion = Expansion.get_by_id(campaign)
        assert (expansion.state, expansion.failures, expansion.error) == ("done", 0, None)


def refuse_recipients(db: Db, number: int) -> None:
    """MySQL answers every new recipient with this error of its own, as it would without room or under load."""
    db.run(
        "CREATE TRIGGER refuse BEFORE INSERT ON recipients FOR EACH ROW "
        f"SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {number}, MESSAGE_TEXT = 'as the test wants it'"
    )


class TestMysql:
    """What only MySQL says, by its own error numbers."""

    @pytest.fixture
    def database_url(self, mariadb: str) -> Iterator[str]:
        root = connect(mariadb.format(name="mysql"))
        root.run("CREATE DATABASE trouble CHARACTER SET utf8mb4")
        yield mariadb.format(name="trouble")
        root.run("DROP DATABASE trouble")
        root.close()

    @pytest.mark.parametrize("number", [1114, 1021, 1213, 1040, 1030, 1290])
    def test_the_reason_stands_beside_the_campaign_until_it_has_passed(
        self, db: Db, settings: Settings, campaign: int, number: int
    ) -> None:
        refuse_recipients(db, number)

        def said() -> str:
            return str(progress_of(db, Campaign.get_by_id(campaign), db.now_ms()).blocked_by)

        with Expanding(settings, campaign) as expanding:
            eventually(lambda: "as the test wants it" in said(), "check-campaign shows it")
            eventually(lambda: len(expanding.told) > 4, "it tries again")
            expansion = Expansion.get_by_id(campaign)
            assert (expansion.failures, Recipient.select().count()) == (0, 0)
            db.run("DROP TRIGGER refuse")
            expanding.end()
        assert said() == "None"
        check_exact(db, campaign, PEOPLE)

    def test_a_column_that_is_missing_is_a_failure(self, db: Db, settings: Settings, campaign: int) -> None:
        db.run("ALTER TABLE recipients DROP COLUMN state")
        with Expanding(settings, campaign) as expanding:
            expanding.end()
        assert expanding.told == []
        assert Expansion.get_by_id(campaign).failures == 1


def test_a_missing_table_is_a_failure_and_after_five_the_campaign_fails(
    db: Db, settings: Settings, campaign: int
) -> None:
    db.run("ALTER TABLE recipients RENAME TO elsewhere")
    for failures in range(1, MAX_FAILURES + 1):
        with Expanding(settings, campaign) as expanding:
            expanding.end()
        assert (expanding.told, expanding.error) == ([], None)
        assert Expansion.get_by_id(campaign).failures == failures
        Expansion.update(lease_until=0).execute()
    failed = Campaign.get_by_id(campaign)
    assert failed.status == "failed"
    assert "recipients" in str(failed.reason)


@pytest.mark.usefixtures("short_locks")
def test_a_worker_that_stops_meanwhile_leaves_it_to_the_next_one(db: Db, settings: Settings, campaign: int) -> None:
    reached, go = threading.Event(), threading.Event()

    def pace() -> None:
        reached.set()
        go.wait(60)

    with Expanding(settings, campaign, pace) as expanding:
        assert reached.wait(60)
        with locked(db, settings.database_url, campaign):
            go.set()
            eventually(lambda: expanding.told, "it waits")
            expanding.stop.set()
            expanding.end()
    assert Expansion.get_by_id(campaign).failures == 0
    Expansion.update(lease_until=0).execute()
    with Expanding(settings, campaign) as next_one:
        next_one.end()
    check_exact(db, campaign, PEOPLE)


def a_directory_that_is_gone(where: Path) -> None:
    connect(f"sqlite:///{where / 'none' / 'x.db'}").value("SELECT id FROM t")


def a_file_that_is_no_database(where: Path) -> None:
    (where / "x.db").write_bytes(b"no database at all" * 100)
    connect(f"sqlite:///{where / 'x.db'}").value("SELECT id FROM t")


def no_room_for_a_page(where: Path) -> None:
    db = connect(f"sqlite:///{where / 'y.db'}")
    db.run("CREATE TABLE t (a)")
    db.rows("PRAGMA max_page_count = 2")
    db.run("INSERT INTO t VALUES (zeroblob(100000))")


def a_wrong_statement(where: Path) -> None:
    connect(f"sqlite:///{where / 'z.db'}").value("SELECT nothing FROM nowhere")


@pytest.mark.parametrize(
    ("make", "passes"),
    [
        (a_directory_that_is_gone, True), (no_room_for_a_page, True),
        (a_wrong_statement, False), (a_file_that_is_no_database, False),
    ],
)  # fmt: skip
def test_sqlites_own_codes_decide(make: Callable[[Path], object], passes: bool, tmp_path: Path) -> None:
    with pytest.raises(peewee.PeeweeException) as raised:
        make(tmp_path)
    assert passes_by_itself(raised.value) is passes


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (pymysql.OperationalError(2006, "gone"), True), (pymysql.OperationalError(2013, "lost"), True),
        (pymysql.InterfaceError(0, ""), True), (pymysql.InternalError(3, "Error writing file (errno: 28)"), True),
        (pymysql.OperationalError(1054, "Unknown column"), False), (pymysql.ProgrammingError(1146, "No table"), False),
        (pymysql.IntegrityError(1062, "Duplicate"), False), (pymysql.DataError(1406, "Too long"), False),
    ],
)  # fmt: skip
def test_mysqls_own_numbers_decide(error: Exception, passes: bool) -> None:
    as_peewee_does: Any = peewee.__dict__["__exception_wrapper__"]
    with pytest.raises(peewee.PeeweeException) as wrapped, as_peewee_does:
        raise error
    assert passes_by_itself(wrapped.value) is passes


def test_an_error_of_ours_never_passes() -> None:
    assert not passes_by_itself(ZeroDivisionError())
    assert not passes_by_itself(OSError(28, os.strerror(28)))

"""Fixtures: a home of one's own, real databases, a real Redis."""

from __future__ import annotations

import shutil
import signal
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
import redis

from app.config import Settings, make_home, read_settings
from app.db import Db, connect, migrate
from app.models import tables
from app.queues.broker import redis_client
from tests.compiled_once import compile_once
from tests.databases import Databases
from tests.services import private_mariadb, private_redis

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def pytest_configure() -> None:
    """A shell starts jobs in the background with SIGINT ignored, and whatever a test starts would inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # How long an example takes says more about who else uses the machine than about the example.
    hypothesis.settings.register_profile(
        "untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
    hypothesis.settings.load_profile("untimed")
    compile_once()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files with slow tests first, so that at the end nobody waits for the last of them.

    Shuffled, but the same way each time: those that keep the processors busy (a browser) and those that wait (a stack)
    have neighbours in the alphabet of their own kind.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path not in slow, zlib.crc32(item.path.name.encode()), item.path))


@pytest.fixture(scope="session")
def short_directory() -> Iterator[Path]:
    """Like pytest's own, but short enough for the path of a unix socket."""
    path = Path(tempfile.mkdtemp(prefix="mc-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def mariadb(short_directory: Path) -> Iterator[str]:
    directory = short_directory / "mysql"
    directory.mkdir()
    with private_mariadb(directory) as url:
        yield url


@pytest.fixture(scope="session")
def redis_server(short_directory: Path) -> Iterator[str]:
    directory = short_directory / "redis"
    directory.mkdir()
    with private_redis(directory) as url:
        yield url


@pytest.fixture(scope="session")
def databases(short_directory: Path) -> Databases:
    return Databases(short_directory)


@pytest.fixture(params=["sqlite", "mysql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path, databases: Databases) -> Iterator[str]:
    """A database on each of the two kinds: empty; migrated where the test also asks for `db`."""
    migrated = "db" in request.fixturenames
    if request.param == "sqlite":
        path = tmp_path / "test.db"
        yield databases.sqlite(path) if migrated else f"sqlite:///{path}"
        return
    databases.server = request.getfixturevalue("mariadb")
    name = databases.take() if migrated else databases.make()
    yield databases.url(name)
    if migrated:
        databases.give(name)
    else:
        databases.drop(name)


@pytest.fixture
def db(database_url: str) -> Iterator[Db]:
    """A migrated database, the models bound to it."""
    db = connect(database_url)
    migrate(db)
    tables.bind(db)
    yield db
    db.close()


@pytest.fixture
def settings(tmp_path: Path, database_url: str, redis_server: str) -> Settings:
    """Settings of a home of its own, with this test's database and a Redis database of its own."""
    made = read_settings(
        {"MAILCREW_HOME": str(tmp_path / "home"), "DATABASE_URL": database_url, "REDIS_URL": redis_server},
        root=tmp_path,
    )
    make_home(made)
    return made


@pytest.fixture
def client(here: Settings) -> Iterator[redis.Redis]:
    """The Redis of `here`, which each file that shares it gives a database of its own; empty before and after."""
    client = redis_client(here.redis_url)
    client.flushdb()
    yield client
    client.flushdb()
    client.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests of a process; each opens windows of its own."""
    from tests.console import chromium

    with chromium() as found:
        yield found

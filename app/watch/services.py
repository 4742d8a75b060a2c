"""What is wrong with the database and with Redis; each asked once, within a bounded time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import redis

from app.config import Settings
from app.db import Db, migration_status
from app.scaling.alerts import Alert, Kind, Severity
from app.scaling.redis_server import OLDEST
from app.watch.picture import open_existing

#: What the server must let us open beyond our own connections: an administrator's, a dump's.
SPARE_CONNECTIONS = 5


@dataclass(frozen=True)
class DatabaseFacts:
    """`version` is a name and a number; the MySQL values are None on SQLite."""

    version: str
    missing: tuple[str, ...]
    max_connections: int | None
    flush: int | None


def ask_database(url: str) -> DatabaseFacts:
    """Raises Unavailable and DatabaseTrouble."""
    db = open_existing(url)
    try:
        return database_facts(db)
    finally:
        db.close()


def database_facts(db: Db) -> DatabaseFacts:
    """The same of one that is open."""
    missing = tuple(name for name, applied in migration_status(db) if not applied)
    if db.dialect == "sqlite":
        return DatabaseFacts(f"SQLite {db.value('SELECT sqlite_version()')}", missing, None, None)
    return _mysql(db, missing)


def database_remedy(url: str) -> str:
    """What to do when it does not answer."""
    if url.startswith("sqlite:///") and not Path(unquote(url.removeprefix("sqlite:///"))).is_file():
        return "bin/mailcrew db migrate makes it"
    return "see DATABASE_URL"


def _mysql(db: Db, missing: tuple[str, ...]) -> DatabaseFacts:
    row = db.row("SELECT VERSION(), @@max_connections, @@innodb_flush_log_at_trx_commit")
    assert row is not None
    return DatabaseFacts(f"MySQL {row[0]}", missing, int(row[1]), int(row[2]))


def database_alerts(facts: DatabaseFacts, needed: int | None) -> list[Alert]:
    """`needed`: connections that the declared processes may open, None when the table cannot be read."""
    found = []
    if facts.missing:
        what = f"lacks {', '.join(facts.missing)}"
        migrate = "bin/mailcrew db migrate"
        values: dict[str, str | int] = {"migrations": ", ".join(facts.missing)}
        found.append(_database("database_migrations", what, migrate, values, Severity.CRITICAL))
    if facts.flush not in (None, 1):
        what = f"innodb_flush_log_at_trx_commit={facts.flush}: a power cut forgets what was sent, and it goes twice"
        found.append(
            _database("database_flush", what, "set it to 1 in the server's configuration", {"n": facts.flush or 0})
        )
    if facts.max_connections is not None and needed is not None:
        least = needed + SPARE_CONNECTIONS
        if facts.max_connections < least:
            what = f"max_connections={facts.max_connections}, and every process at its maximum may need {least}"
            remedy = f"set max_connections={least} on the server, or lower max in the table of queues"
            found.append(_database("database_connections", what, remedy, {"n": facts.max_connections, "needed": least}))
    return found


def _database(
    kind: Kind, what: str, remedy: str, values: dict[str, str | int], severity: Severity = Severity.WARNING
) -> Alert:
    return Alert(
        kind.replace("_", ":"), "database", what, remedy, kind, severity, values, "database",
        everywhere=True,
    )  # fmt: skip


def ask_redis(settings: Settings, seconds: float) -> dict[str, Any]:
    """What Redis says of itself; INFO, because hosted ones refuse CONFIG. Raises RedisTrouble."""
    client = redis.Redis(
        connection_pool=redis.ConnectionPool.from_url(
            settings.redis_url, socket_timeout=seconds, socket_connect_timeout=seconds
        )
    )
    try:
        said: dict[str, Any] = client.info("everything")
        return said
    finally:
        client.close()


def redis_alerts(said: Mapping[str, Any]) -> list[Alert]:
    """Version, what it does when full, and whether it keeps what it was given."""
    found = []
    version = str(said.get("redis_version", "0"))
    if _numbers(version) < OLDEST:
        what = f"version {version} is older than {'.'.join(map(str, OLDEST))}"
        found.append(_redis("redis_version", what, "install a newer one", {"version": version}))
    policy = said.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        what = f"maxmemory-policy {policy} throws waiting messages away when it is full"
        found.append(
            _redis("redis_policy", what, "set maxmemory-policy noeviction in redis.conf", {"policy": str(policy)})
        )
    if not int(said.get("aof_enabled", 0)):
        what = "appendonly is off: a restart forgets waiting messages"
        found.append(_redis("redis_aof", what, "set appendonly yes in redis.conf", {}))
    elif said.get("aof_last_write_status", "ok") != "ok":
        found.append(_redis("redis_aof_write", "it cannot write its append-only file", "make room on its disk", {}))
    return found


def _redis(kind: Kind, what: str, remedy: str, values: dict[str, str | int]) -> Alert:
    # One problem with its file, whichever it is.
    key = kind.removesuffix("_write").replace("_", ":")
    return Alert(key, "redis", what, remedy, kind, values=values, source="redis", everywhere=True)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())

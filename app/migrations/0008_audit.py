"""Who did what over HTTP, how often a login was tried, and the sessions that were ended before their time."""

from __future__ import annotations

from typing import Any

MYSQL = {
    "id": "BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY",
    "big": "BIGINT",
    "table": ") ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin",
    "clustered": ") ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin",
}
SQLITE = {
    "id": "INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT",
    "big": "INTEGER",
    "table": ")",
    "clustered": ") WITHOUT ROWID",
}

STATEMENTS = """
CREATE TABLE audit (
    id {id},
    at {big} NOT NULL,
    who VARCHAR(100) NOT NULL,
    action VARCHAR(100) NOT NULL,
    subject VARCHAR(300) NOT NULL,
    detail VARCHAR(500) NOT NULL,
    address VARCHAR(45) NOT NULL
{table};
CREATE INDEX audit_at ON audit (at);
CREATE INDEX audit_who ON audit (who, id);

CREATE TABLE login_attempts (
    who VARCHAR(64) NOT NULL PRIMARY KEY,
    since {big} NOT NULL,
    tries INTEGER NOT NULL
{clustered};
CREATE INDEX login_attempts_since ON login_attempts (since);

CREATE TABLE ended_sessions (
    id CHAR(32) NOT NULL PRIMARY KEY,
    until {big} NOT NULL
{clustered};
CREATE INDEX ended_sessions_until ON ended_sessions (until);
"""


def up(migrator: Any, db: Any) -> None:  # noqa: ARG001 (the runner's signature)
    words = MYSQL if "MySQL" in type(db).__name__ else SQLITE
    for statement in STATEMENTS.split(";"):
        if statement.strip():
            db.execute_sql(statement.format(**words))

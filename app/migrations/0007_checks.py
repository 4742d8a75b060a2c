"""Targets that users want checked, the results of their checks, a summary of each day, and the outages.

Results are clustered by target, which is how they are read and removed; `check_days` lets a page show a year without
reading them. A target that is removed is gone at once; its results wait in `removed_targets` for the tick.
"""

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
CREATE TABLE targets (
    id {id},
    user_id {big} NOT NULL,
    name VARCHAR(200) NOT NULL,
    kind VARCHAR(8) NOT NULL,
    url VARCHAR(2000) NULL,
    host VARCHAR(253) NULL,
    port INTEGER NULL,
    expect_status VARCHAR(100) NULL,
    keyword VARCHAR(200) NULL,
    not_keyword VARCHAR(200) NULL,
    redirects INTEGER NOT NULL,
    timeout_seconds INTEGER NOT NULL,
    confirmations INTEGER NOT NULL,
    webhook VARCHAR(500) NULL,
    enabled SMALLINT NOT NULL DEFAULT 1,
    state VARCHAR(8) NOT NULL,
    failures INTEGER NOT NULL DEFAULT 0,
    failing_since {big} NULL,
    changed_at {big} NULL,
    last_at {big} NULL,
    last_ok SMALLINT NULL,
    last_error VARCHAR(500) NULL,
    last_status_code INTEGER NULL,
    last_latency_ms INTEGER NULL,
    last_resolve_ms INTEGER NULL,
    last_connect_ms INTEGER NULL,
    last_tls_ms INTEGER NULL,
    last_first_byte_ms INTEGER NULL,
    certificate_until {big} NULL,
    created_at {big} NOT NULL,
    tidied_at {big} NOT NULL
{table};
CREATE UNIQUE INDEX targets_name ON targets (user_id, name);
CREATE INDEX targets_tidied ON targets (tidied_at);

CREATE TABLE check_results (
    target_id {big} NOT NULL,
    at {big} NOT NULL,
    ok SMALLINT NOT NULL,
    latency_ms INTEGER NOT NULL,
    status_code SMALLINT NULL,
    error VARCHAR(500) NULL,
    PRIMARY KEY (target_id, at)
{clustered};

CREATE TABLE check_days (
    target_id {big} NOT NULL,
    day INTEGER NOT NULL,
    checks INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    latency_sum {big} NOT NULL,
    latency_max INTEGER NOT NULL,
    PRIMARY KEY (target_id, day)
{clustered};

CREATE TABLE target_outages (
    target_id {big} NOT NULL,
    began_at {big} NOT NULL,
    ended_at {big} NULL,
    reason VARCHAR(500) NOT NULL,
    PRIMARY KEY (target_id, began_at)
{clustered};

CREATE TABLE removed_targets (
    target_id {big} NOT NULL PRIMARY KEY,
    removed_at {big} NOT NULL
{clustered};
"""


def up(migrator: Any, db: Any) -> None:  # noqa: ARG001 (the runner's signature)
    words = MYSQL if "MySQL" in type(db).__name__ else SQLITE
    for statement in STATEMENTS.split(";"):
        if statement.strip():
            db.execute_sql(statement.format(**words))

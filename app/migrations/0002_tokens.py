"""Tokens for the HTTP API. Only the SHA-256 of a token is stored; a name is used once, also after revocation."""

from __future__ import annotations

from typing import Any

MYSQL = {
    "id": "BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY",
    "big": "BIGINT",
    "table": ") ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin",
}
SQLITE = {
    "id": "INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT",
    "big": "INTEGER",
    "table": ")",
}

STATEMENTS = """
CREATE TABLE tokens (
    id {id},
    name VARCHAR(100) NOT NULL,
    scope VARCHAR(8) NOT NULL,
    hash CHAR(64) NOT NULL,
    created_at {big} NOT NULL,
    last_used_at {big} NULL,
    revoked_at {big} NULL
{table};
CREATE UNIQUE INDEX tokens_name ON tokens (name);
CREATE UNIQUE INDEX tokens_hash ON tokens (hash);
"""


def up(migrator: Any, db: Any) -> None:  # noqa: ARG001 (the runner's signature)
    words = MYSQL if "MySQL" in type(db).__name__ else SQLITE
    for statement in STATEMENTS.split(";"):
        if statement.strip():
            db.execute_sql(statement.format(**words))

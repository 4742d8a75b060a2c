"""Imports that a worker does, and the names by which subscribers are searched.

`place`: the machine and home that hold the uploaded file. `tries`: how often it was taken up since it last came
forward. What stands after `rejects_size` is as of the last committed chunk, so that another worker goes on there.

`name_key` is computed, and stored in its index only. SQLite folds ASCII letters, MySQL all.
"""

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
CREATE TABLE imports (
    id {id},
    list_id {big} NOT NULL,
    file_name VARCHAR(200) NOT NULL,
    stored VARCHAR(64) NOT NULL,
    place VARCHAR(300) NOT NULL,
    encoding VARCHAR(40) NULL,
    size {big} NOT NULL,
    who VARCHAR(100) NOT NULL,
    state VARCHAR(12) NOT NULL,
    token CHAR(32) NULL,
    lease_until {big} NOT NULL DEFAULT 0,
    tries INTEGER NOT NULL DEFAULT 0,
    bytes_read {big} NOT NULL DEFAULT 0,
    rows_read {big} NOT NULL DEFAULT 0,
    created {big} NOT NULL DEFAULT 0,
    updated {big} NOT NULL DEFAULT 0,
    unchanged {big} NOT NULL DEFAULT 0,
    rejected {big} NOT NULL DEFAULT 0,
    rejects_size {big} NOT NULL DEFAULT 0,
    rate DOUBLE NULL,
    error VARCHAR(500) NULL,
    created_at {big} NOT NULL,
    started_at {big} NULL,
    updated_at {big} NOT NULL,
    finished_at {big} NULL
{table};
CREATE INDEX imports_state ON imports (state, lease_until);
CREATE INDEX imports_list ON imports (list_id, id);

ALTER TABLE subscribers ADD COLUMN name_key VARCHAR(200) GENERATED ALWAYS AS (LOWER(name)) VIRTUAL;
CREATE INDEX subscribers_name ON subscribers (name_key);
"""


def up(migrator: Any, db: Any) -> None:  # noqa: ARG001 (the runner's signature)
    words = MYSQL if "MySQL" in type(db).__name__ else SQLITE
    for statement in STATEMENTS.split(";"):
        if statement.strip():
            db.execute_sql(statement.format(**words))

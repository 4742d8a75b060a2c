"""What has happened so often since the beginning: counted by the transaction that does it, and never less."""

from __future__ import annotations

from typing import Any


def up(migrator: Any, db: Any) -> None:  # noqa: ARG001 (the runner's signature)
    mysql = "MySQL" in type(db).__name__
    big = "BIGINT" if mysql else "INTEGER"
    tail = ") ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin" if mysql else ") WITHOUT ROWID"
    db.execute_sql(
        "CREATE TABLE counters (name VARCHAR(64) NOT NULL, label VARCHAR(128) NOT NULL, "
        f"value {big} NOT NULL, PRIMARY KEY (name, label){tail}"
    )

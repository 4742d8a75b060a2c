"""The sums of `deliveries` by hour and server: what long plots and totals read, where minutes would be millions."""

from __future__ import annotations

from typing import Any


def up(migrator: Any, db: Any) -> None:  # noqa: ARG001 (the runner's signature)
    mysql = "MySQL" in type(db).__name__
    big = "BIGINT" if mysql else "INTEGER"
    tail = ") ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin" if mysql else ") WITHOUT ROWID"
    db.execute_sql(
        f"CREATE TABLE delivery_hours (hour INTEGER NOT NULL, server_id {big} NOT NULL, attempts {big} NOT NULL, "
        f"sent {big} NOT NULL, failed {big} NOT NULL, deferred {big} NOT NULL, unknown {big} NOT NULL, "
        f"PRIMARY KEY (hour, server_id){tail}"
    )

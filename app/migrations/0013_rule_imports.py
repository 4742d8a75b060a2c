"""Imports of rules of suppression: those with `list_id` 0. `reason`: of rows that bring none of their own."""

from __future__ import annotations

from typing import Any


def up(migrator: Any, db: Any) -> None:  # noqa: ARG001 (the runner's signature)
    big = "BIGINT" if "MySQL" in type(db).__name__ else "INTEGER"
    db.execute_sql("ALTER TABLE imports ADD COLUMN reason VARCHAR(500) NULL")
    db.execute_sql(f"ALTER TABLE imports ADD COLUMN blocked {big} NOT NULL DEFAULT 0")

"""How many workers of its own a campaign is to have; 0: only the common ones."""

from __future__ import annotations

from typing import Any


def up(migrator: Any, db: Any) -> None:  # noqa: ARG001 (the runner's signature)
    kind = "INT" if "MySQL" in type(db).__name__ else "INTEGER"
    db.execute_sql(f"ALTER TABLE campaigns ADD COLUMN boost {kind} NOT NULL DEFAULT 0")

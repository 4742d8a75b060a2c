"""What became of a campaign's mails by recipient domain, kept once the campaign is over. `domain` empty: all others."""

from __future__ import annotations

from typing import Any


def up(migrator: Any, db: Any) -> None:  # noqa: ARG001 (the runner's signature)
    mysql = "MySQL" in type(db).__name__
    big = "BIGINT" if mysql else "INTEGER"
    counts = ", ".join(f"{name} {big} NOT NULL" for name in ("sent", "failed", "skipped", "unknown", "domains"))
    tail = ") ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin" if mysql else ") WITHOUT ROWID"
    db.execute_sql(
        f"CREATE TABLE domain_shares (campaign_id {big} NOT NULL, domain VARCHAR(255) NOT NULL, {counts}, "
        f"PRIMARY KEY (campaign_id, domain){tail}"
    )

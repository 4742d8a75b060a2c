"""What the manager decided about the workers of a queue, on what grounds; old rows are removed by it."""

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
CREATE TABLE scaling_decisions (
    id {id},
    at {big} NOT NULL,
    host VARCHAR(255) NOT NULL,
    queue VARCHAR(64) NOT NULL,
    workers INTEGER NOT NULL,
    target INTEGER NOT NULL,
    backlog {big} NULL,
    in_flight {big} NULL,
    oldest_seconds DOUBLE NULL,
    rate DOUBLE NULL,
    bound_by VARCHAR(100) NULL,
    reason VARCHAR(500) NOT NULL
{table};
CREATE INDEX scaling_decisions_at ON scaling_decisions (at);
CREATE INDEX scaling_decisions_queue ON scaling_decisions (queue, id);
"""


def up(migrator: Any, db: Any) -> None:  # noqa: ARG001 (the runner's signature)
    words = MYSQL if "MySQL" in type(db).__name__ else SQLITE
    for statement in STATEMENTS.split(";"):
        if statement.strip():
            db.execute_sql(statement.format(**words))

"""Alarms: what needed somebody, since when, and who was told; and an index of what nobody has decided about.

`place`: host and home that see it, empty for what every host sees. `closed_at` 0: it is open, and of one key only one
can be. An acknowledged one keeps quiet until `silent_until`, or until it is over when that is NULL.
"""

from __future__ import annotations

from typing import Any

MYSQL = {
    "id": "BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY",
    "big": "BIGINT",
    "table": ") ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin",
    "unknown": "(unknown, campaign_id)",
}
SQLITE = {
    "id": "INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT",
    "big": "INTEGER",
    "table": ")",
    # Nearly all batches have none, so nearly none is in it.
    "unknown": "(campaign_id, unknown) WHERE unknown > 0",
}

STATEMENTS = """
CREATE TABLE alarms (
    id {id},
    place VARCHAR(300) NOT NULL,
    alarm_key VARCHAR(300) NOT NULL,
    kind VARCHAR(40) NOT NULL,
    source VARCHAR(20) NOT NULL,
    severity VARCHAR(10) NOT NULL,
    subject VARCHAR(200) NOT NULL,
    what VARCHAR(1000) NOT NULL,
    remedy VARCHAR(500) NOT NULL,
    details VARCHAR(2000) NOT NULL,
    opened_at {big} NOT NULL,
    times INTEGER NOT NULL DEFAULT 1,
    closed_at {big} NOT NULL DEFAULT 0,
    acknowledged_by VARCHAR(110) NULL,
    acknowledged_at {big} NULL,
    silent_until {big} NULL
{table};
CREATE UNIQUE INDEX alarms_key ON alarms (place, alarm_key, closed_at);
CREATE INDEX alarms_open ON alarms (closed_at, id);

CREATE TABLE alarm_events (
    id {id},
    alarm_id {big} NOT NULL,
    at {big} NOT NULL,
    kind VARCHAR(16) NOT NULL,
    who VARCHAR(200) NOT NULL,
    detail VARCHAR(300) NOT NULL
{table};
CREATE INDEX alarm_events_alarm ON alarm_events (alarm_id, id);

CREATE INDEX batches_unknown ON batches {unknown};
"""


def up(migrator: Any, db: Any) -> None:  # noqa: ARG001 (the runner's signature)
    words = MYSQL if "MySQL" in type(db).__name__ else SQLITE
    for statement in STATEMENTS.split(";"):
        if statement.strip():
            db.execute_sql(statement.format(**words))

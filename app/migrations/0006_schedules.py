"""Users, when each one's checks are to run, and the runs that have ended.

`period` is the instant for which a user was claimed last, `started_period` the one whose run was started last.
`phase_at` is an instant of the user's rhythm that is not after now; `next_run_at` may be off it after "run now".
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
CREATE TABLE users (
    id {id},
    email VARCHAR(320) NOT NULL,
    email_key VARCHAR(320) NOT NULL,
    name VARCHAR(200) NOT NULL DEFAULT '',
    created_at {big} NOT NULL
{table};
CREATE UNIQUE INDEX users_email ON users (email_key);

CREATE TABLE user_monitor_schedules (
    user_id {big} NOT NULL PRIMARY KEY,
    enabled SMALLINT NOT NULL DEFAULT 1,
    interval_minutes INTEGER NOT NULL,
    next_run_at {big} NOT NULL,
    phase_at {big} NOT NULL,
    period {big} NULL,
    started_period {big} NULL,
    last_run_at {big} NULL,
    last_status VARCHAR(12) NULL,
    last_error VARCHAR(500) NULL,
    last_duration_ms {big} NULL,
    locked_until {big} NULL,
    locked_by CHAR(32) NULL,
    runs INTEGER NOT NULL DEFAULT 0,
    skipped INTEGER NOT NULL DEFAULT 0,
    overruns INTEGER NOT NULL DEFAULT 0,
    interruptions INTEGER NOT NULL DEFAULT 0
{table};
CREATE INDEX schedules_due ON user_monitor_schedules (enabled, next_run_at);
CREATE INDEX schedules_phase ON user_monitor_schedules (phase_at);
CREATE INDEX schedules_locks ON user_monitor_schedules (locked_until);
CREATE INDEX schedules_status ON user_monitor_schedules (last_status, user_id);

CREATE TABLE schedule_runs (
    id {id},
    user_id {big} NOT NULL,
    period {big} NOT NULL,
    started_at {big} NOT NULL,
    duration_ms {big} NOT NULL,
    status VARCHAR(12) NOT NULL,
    error VARCHAR(500) NULL,
    checks INTEGER NOT NULL DEFAULT 0
{table};
CREATE INDEX schedule_runs_user ON schedule_runs (user_id, id);
"""


def up(migrator: Any, db: Any) -> None:  # noqa: ARG001 (the runner's signature)
    words = MYSQL if "MySQL" in type(db).__name__ else SQLITE
    for statement in STATEMENTS.split(";"):
        if statement.strip():
            db.execute_sql(statement.format(**words))

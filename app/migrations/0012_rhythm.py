"""The rhythm of a schedule follows from its next run; only a run beside it needs to remember where it goes on.

So whoever writes `next_run_at` moves the rhythm, and nothing else has to be written with it. `prior_at` is the instant
of the rhythm before the next run: in the future, it tells that the clock was set back.
"""

from __future__ import annotations

from typing import Any

CONTRACT = "phase_at was never in a release: only homes of the development of 0.1.0 have it"

TABLE = "user_monitor_schedules"
KEPT = (
    "user_id, enabled, interval_minutes, next_run_at, period, started_period, last_run_at, last_status, last_error, "
    "last_duration_ms, locked_until, locked_by, runs, skipped, overruns, interruptions"
)
#: Where the rhythm goes on behind a run that was asked for, in the words of before.
OFF_RHYTHM = "NULLIF(phase_at + interval_minutes * 60000, next_run_at)"
PRIOR = "prior_at {big} GENERATED ALWAYS AS (next_run_at - interval_minutes * 60000) STORED"

#: SQLite adds no stored column and drops none before 3.35.
SQLITE = f"""
CREATE TABLE schedules_anew (
    user_id INTEGER NOT NULL PRIMARY KEY,
    enabled SMALLINT NOT NULL DEFAULT 1,
    interval_minutes INTEGER NOT NULL,
    next_run_at INTEGER NOT NULL,
    rhythm_at INTEGER NULL,
    {PRIOR.format(big="INTEGER")},
    period INTEGER NULL,
    started_period INTEGER NULL,
    last_run_at INTEGER NULL,
    last_status VARCHAR(12) NULL,
    last_error VARCHAR(500) NULL,
    last_duration_ms INTEGER NULL,
    locked_until INTEGER NULL,
    locked_by CHAR(32) NULL,
    runs INTEGER NOT NULL DEFAULT 0,
    skipped INTEGER NOT NULL DEFAULT 0,
    overruns INTEGER NOT NULL DEFAULT 0,
    interruptions INTEGER NOT NULL DEFAULT 0
);
INSERT INTO schedules_anew ({KEPT}, rhythm_at) SELECT {KEPT}, {OFF_RHYTHM} FROM {TABLE};
DROP TABLE {TABLE};
ALTER TABLE schedules_anew RENAME TO {TABLE};
CREATE INDEX schedules_due ON {TABLE} (enabled, next_run_at);
CREATE INDEX schedules_prior ON {TABLE} (prior_at);
CREATE INDEX schedules_locks ON {TABLE} (locked_until);
CREATE INDEX schedules_status ON {TABLE} (last_status, user_id)
"""
#: Each is skipped when it has been done: MySQL takes back nothing of a migration that is cut short.
MYSQL = (
    ("rhythm_at", f"ALTER TABLE {TABLE} ADD COLUMN rhythm_at BIGINT NULL"),
    ("prior_at", f"UPDATE {TABLE} SET rhythm_at = {OFF_RHYTHM}"),
    ("prior_at", f"ALTER TABLE {TABLE} ADD COLUMN {PRIOR.format(big='BIGINT')}, ADD INDEX schedules_prior (prior_at)"),
)


def up(migrator: Any, db: Any) -> None:  # noqa: ARG001 (the runner's signature)
    if "MySQL" not in type(db).__name__:
        for statement in SQLITE.split(";"):
            db.execute_sql(statement)
        return
    there = {column.name for column in db.get_columns(TABLE)}
    for made, statement in MYSQL:
        if made not in there:
            db.execute_sql(statement)
    if "phase_at" in there:
        db.execute_sql(f"ALTER TABLE {TABLE} DROP COLUMN phase_at")

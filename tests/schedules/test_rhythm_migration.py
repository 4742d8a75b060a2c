"""Homes from the time when a schedule kept its phase: everybody's rhythm goes on as it was."""

from __future__ import annotations

import shutil
from pathlib import Path

from app.db import connect, migrate
from app.db.migrate import DIRECTORY
from app.schedules.claims import claim_due
from app.schedules.times import MINUTE
from tests.schedules.people import NOW, add_users

NAME = "0012_rhythm"
COLUMNS = "next_run_at, rhythm_at, prior_at, skipped, last_error"


def test_schedules_keep_their_rhythm(database_url: str, tmp_path: Path) -> None:
    earlier = tmp_path / "earlier"
    earlier.mkdir()
    for path in sorted(DIRECTORY.glob("0*.py")):
        if path.stem < NAME:
            shutil.copy(path, earlier)
    db = connect(database_url)
    migrate(db, directory=earlier)
    _, asked = add_users(db, 2, minutes=5, due=NOW + MINUTE, phase_at=NOW - 4 * MINUTE, skipped=7, last_error="x")
    db.run("UPDATE user_monitor_schedules SET next_run_at = ? WHERE user_id = ?", NOW - 1000, asked)

    migrate(db)

    one, two = db.rows(f"SELECT {COLUMNS} FROM user_monitor_schedules ORDER BY user_id")
    assert one == (NOW + MINUTE, None, NOW - 4 * MINUTE, 7, "x")
    assert two == (NOW - 1000, NOW + MINUTE, NOW - 1000 - 5 * MINUTE, 7, "x")
    assert [claim.user_id for claim in claim_due(db, "t" * 32, NOW, 900_000, 10)] == [asked]
    assert db.value("SELECT next_run_at FROM user_monitor_schedules WHERE user_id = ?", asked) == NOW + MINUTE
    if db.dialect == "mysql":  # which takes back nothing of a migration that is cut short
        db.run("DELETE FROM schema_migration WHERE name = ?", NAME)
        db.run("INSERT INTO schema_migration_begun VALUES (?)", NAME)
        assert migrate(db)
        assert len(db.rows(f"SELECT {COLUMNS} FROM user_monitor_schedules")) == 2
    db.close()

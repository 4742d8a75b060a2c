"""An import in real workers: one is killed in the middle, another one finishes, and every row counts once."""

from __future__ import annotations

from dataclasses import replace

import pytest
import redis

from app.config import Settings
from app.db import Db
from app.lists.jobs import find_import, submit
from app.lists.memberships import find_or_create_list
from app.models.states import ImportState
from app.queues.put_new import put_new
from tests.working import WorkerProcess, eventually

ROWS = 80_000
BAD_EVERY = 100


@pytest.fixture
def here(settings: Settings, redis_server: str) -> Settings:
    return replace(settings, redis_url=f"{redis_server}?db=12")


@pytest.mark.slow
def test_a_killed_worker_costs_no_row_and_counts_none_twice(db: Db, here: Settings, client: redis.Redis) -> None:
    here.uploads.mkdir()
    bad = range(BAD_EVERY, ROWS + 1, BAD_EVERY)
    with (here.uploads / "people").open("w") as file:
        file.write("email,name\n")
        file.writelines(
            f"u{i}x.test,U{i}\n" if i % BAD_EVERY == 0 else f"u{i}@x.test,U{i}\n" for i in range(1, ROWS + 1)
        )
    news = find_or_create_list(db, "news")
    import_id = submit(
        db, here, "people", list_id=news, file_name="people.csv", encoding=None, who="me", now=db.now_ms()
    )  # fmt: skip

    with WorkerProcess(here, "--queues", "mail", name="mail_00", LEASE_SECONDS="5") as first:
        put_new(client, "mail", "import_people", {f"import-{import_id}": []})
        eventually(lambda: find_import(db, import_id).rows_read >= 4000, "some rows are in")
        first.kill()
    left = find_import(db, import_id)
    assert left.state is ImportState.RUNNING
    assert left.rows_read < ROWS

    with WorkerProcess(here, "--queues", "mail", name="mail_01", LEASE_SECONDS="5"):
        # The lease is not over yet: the message comes again by itself until it is.
        put_new(client, "mail", "import_people", {"imports-1": []})
        eventually(lambda: find_import(db, import_id).state is ImportState.DONE, "the import is done", 90)

    done = find_import(db, import_id)
    assert (done.rows_read, done.created, done.rejected) == (ROWS, ROWS - len(bad), len(bad))
    assert db.value("SELECT COUNT(*) FROM memberships WHERE list_id = ?", news) == ROWS - len(bad)
    lines = (here.rejects / f"import-{import_id}.csv").read_text().splitlines()
    assert [int(line.split(",")[0]) for line in lines[1:]] == [i + 1 for i in bad]

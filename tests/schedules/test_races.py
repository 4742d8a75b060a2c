"""Four dispatchers in processes of their own, and workers between them: each due user once per period."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.config import ROOT, Settings
from app.db import Db
from app.models.schedules import ScheduleRun
from app.queues import keys
from app.queues.broker import redis_client
from app.schedules.sweep import waiting_claims
from app.schedules.times import MINUTE
from tests.schedules.people import NOW, add_users, schedule
from tests.working import MortalRedis, eventually

pytestmark = pytest.mark.slow

#: Begins with the others, dispatches the same instant, and says whom it claimed.
DISPATCHER = """
import json, sys
from app.config import settings
from app.models.tables import open_database
from app.queues.broker import redis_client
from app.schedules.dispatch import dispatch, put_claims
db, found, mine = open_database(settings()), settings(), []
put = put_claims(redis_client(found.redis_url))
print("ready", flush=True)
for line in sys.stdin:
    done = dispatch(db, found, put, int(line), lambda claims: mine.extend((c.user_id, c.period) for c in claims))
    assert not done.errors, done.errors
    print(json.dumps(mine), flush=True)
    mine.clear()
"""

#: Works off its part of the messages: starts each, twice, and ends what it started.
WORKER = """
import json, sys
from app.config import settings
from app.models.schedules import RunStatus
from app.models.tables import open_database
from app.schedules.claims import finish, start
db, now = open_database(settings()), int(sys.argv[1])
print("ready", flush=True)
for user_id, token in json.loads(sys.stdin.readline()):
    for _ in range(2):
        run = start(db, user_id, token, now)
        if run:
            assert finish(db, run, RunStatus.OK, None, 1, 1)
print("done", flush=True)
"""


class Process:
    """A Python process with this test's database and Redis."""

    def __init__(self, settings: Settings, program: str, *arguments: str, **environ: str) -> None:
        environment = {
            "MAILCREW_HOME": str(settings.home), "DATABASE_URL": settings.database_url,
            "REDIS_URL": settings.redis_url, "PYTHONPATH": str(ROOT), **environ,
        }  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, "-c", program, *arguments], env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT,
        )  # fmt: skip
        assert self.hear() == "ready"

    def say(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text + "\n")
        self._process.stdin.flush()

    def hear(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(20)

    def end(self) -> None:
        self._process.communicate(timeout=30)
        assert self._process.returncode == 0


def test_four_dispatchers_at_once_claim_each_user_once_per_period(db: Db, settings: Settings) -> None:
    client = redis_client(settings.redis_url)
    client.flushdb()
    users = add_users(db, 600, minutes=1)
    dispatchers = [Process(settings, DISPATCHER, DISPATCH_BATCH_SIZE="7") for _ in range(4)]
    claimed: Counter[tuple[int, int]] = Counter()
    shares = []
    for minute in range(3):
        now = NOW + minute * MINUTE
        for one in dispatchers:
            one.say(str(now))
        for one in dispatchers:
            mine = [(user, period) for user, period in json.loads(one.hear())]
            shares.append(len(mine))
            claimed.update(mine)
        queued = messages(client)
        assert len(queued) == len(users)
        assert len(set(queued)) == len(users)
        work_off(settings, queued, now)
        client.flushdb()
    for one in dispatchers:
        one.end()

    assert claimed == {(user, NOW + minute * MINUTE): 1 for user in users for minute in range(3)}
    assert sum(share > 0 for share in shares) > 3, "they have worked side by side"
    assert {(schedule(user).runs, schedule(user).skipped) for user in users} == {(3, 0)}
    made = Counter((run.user_id, run.period) for run in ScheduleRun.select())
    assert set(made.values()) == {1}
    assert len(made) == 3 * len(users)


def test_users_claimed_by_a_dispatcher_that_was_killed_are_enqueued_a_minute_later(
    db: Db, settings: Settings, short_directory: Path, tmp_path: Path
) -> None:
    directory = short_directory / tmp_path.name
    directory.mkdir()
    users = add_users(db, 45, minutes=60)
    with MortalRedis(directory) as server:
        here = replace(settings, redis_url=server.url)
        killed = Process(here, DISPATCHER)
        server.freeze()
        killed.say(str(NOW))
        eventually(lambda: waiting_claims(db, 100), "the first batch is claimed")
        killed.kill()
        server.thaw()
        ((token, claims),) = waiting_claims(db, 100).items()
        assert server.client.llen(keys.waiting("monitor")) == 0

        next_one = Process(here, DISPATCHER)
        next_one.say(str(NOW + MINUTE))
        rest = json.loads(next_one.hear())
        next_one.end()
        queued = messages(server.client)

    assert len(claims) == settings.dispatch_batch_size
    assert {user for user, holder in queued if holder == token} == {claim.user_id for claim in claims}
    assert sorted(user for user, _ in queued) == users
    assert len(rest) == len(users) - len(claims)
    assert {schedule(user).period for user in users} == {NOW}


def messages(client: Any) -> list[tuple[int, str]]:
    """User and token of everything that waits."""
    ids = client.lrange(keys.waiting("monitor"), 0, -1)
    return [tuple(json.loads(raw)["args"]) for raw in client.hmget(keys.messages("monitor"), ids)]


def work_off(settings: Settings, queued: list[tuple[int, str]], now: int) -> None:
    """Two workers who were given the same messages."""
    workers = [Process(settings, WORKER, str(now)) for _ in range(2)]
    for one in workers:
        one.say(json.dumps(queued))
    assert [one.hear() for one in workers] == ["done", "done"]
    for one in workers:
        one.end()

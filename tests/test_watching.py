"""`check-campaign` and `monitor-campaign`: what scripts read, what people read, with Redis and without."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import threading
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from app.cli.look import Watcher
from app.cli.monitor_campaign import main, plain_line
from app.config import ROOT, Settings
from app.db import Db
from app.mail.servers import add_server
from app.models.tables import Campaign
from app.queues.broker import redis_client
from app.workers.trouble import PASSED_SECONDS, Troubles
from tests.sending import NOW, add_list, add_people, draft, expand, join, start
from tests.test_heartbeat import plant
from tests.working import WorkerProcess, eventually

KEYS = {
    "id", "name", "status", "recipients", "pending", "sending", "sent", "failed", "skipped", "unknown", "queue",
    "workers", "rate_per_second", "eta_seconds", "blocked_by",
}  # fmt: skip


#: The age of a heartbeat, in seconds: it stays fresh however long a command takes.
FRESH = -3600


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """SQLite only: each test starts processes, and the numbers themselves are tested on both databases."""
    return f"sqlite:///{tmp_path / 'test.db'}"


@pytest.fixture
def campaign(db: Db, settings: Settings) -> int:
    """An expanded campaign over two lists, one person on both."""
    add_server(name="sink", host="127.0.0.1", port=25, tls="none", now=NOW)
    people = add_people(db, 5)
    add_list(db, "a", people[:3])
    join(db, add_list(db, "b", []), people[2:])
    campaign_id = draft(db, ["a", "b"])
    start(db, campaign_id)
    expand(db, settings, campaign_id)
    return campaign_id


def begin(settings: Settings, command: str, *arguments: object, redis_url: str = "") -> subprocess.Popen[str]:
    environment = {
        **os.environ, "MAILCREW_HOME": str(settings.home), "DATABASE_URL": settings.database_url,
        "REDIS_URL": redis_url or f"{settings.redis_url}?db=14",
    }  # fmt: skip
    words = [str(ROOT / "bin" / command), *map(str, arguments)]
    return subprocess.Popen(words, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def run(settings: Settings, command: str, *arguments: object, redis_url: str = "") -> subprocess.CompletedProcess[str]:
    with begin(settings, command, *arguments, redis_url=redis_url) as process:
        out, err = process.communicate(timeout=100)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def checked(settings: Settings, *arguments: object, redis_url: str = "") -> dict[str, Any]:
    done = run(settings, "check-campaign", *arguments, "--json", redis_url=redis_url)
    assert (done.returncode, done.stderr) == (0, "")
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_a_script_gets_one_document_with_every_key(settings: Settings, campaign: int) -> None:
    document = checked(settings, campaign)
    assert set(document) >= KEYS
    assert (document["id"], document["name"], document["status"]) == (campaign, "test", "sending")
    assert (document["recipients"], document["pending"], document["sent"]) == (5, 5, 0)
    assert (document["queue"], document["workers"], document["eta_seconds"]) == (0, 0, None)


def test_the_database_tells_how_it_stands_while_redis_is_down(settings: Settings, campaign: int) -> None:
    document = checked(settings, campaign, redis_url="unix:///nowhere/redis.sock")
    assert set(document) >= KEYS
    assert (document["recipients"], document["queue"], document["workers"]) == (5, None, None)
    text = run(settings, "check-campaign", campaign, redis_url="unix:///nowhere/redis.sock")
    assert text.returncode == 0
    assert "Redis does not answer" in text.stdout


def test_a_person_reads_the_lists_the_overlap_what_is_wrong_and_what_to_type(settings: Settings, campaign: int) -> None:
    text = run(settings, "check-campaign", campaign).stdout
    assert "a: 3 active" in text
    assert "b: 3 active" in text
    assert "5 people (1 are on several lists)" in text
    assert "there is work and no worker: bin/supervisor-manager start" in text
    assert f"bin/monitor-campaign {campaign}" in text
    client = redis_client(f"{settings.redis_url}?db=14")
    plant(client, "send_00", FRESH)
    assert "no worker" not in run(settings, "check-campaign", campaign).stdout
    assert checked(settings, campaign)["workers"] == 1
    client.flushdb()
    client.close()


def test_a_worker_that_cannot_work_is_named_with_its_reason(settings: Settings, campaign: int) -> None:
    client = redis_client(f"{settings.redis_url}?db=14")
    plant(client, "send_00", FRESH, trouble="sending: no room for a journal in /j")
    plant(client, "send_01", FRESH)
    text = run(settings, "check-campaign", campaign).stdout
    assert "! worker send_00 on h: sending: no room for a journal in /j: bin/supervisor-manager logs send -" in text
    assert checked(settings, campaign)["blocked_by"] is None, "another one works"
    plant(client, "send_01", FRESH, trouble="sending: the database is in trouble")
    assert checked(settings, campaign)["blocked_by"] == "worker send_00 on h: sending: no room for a journal in /j"
    client.flushdb()
    client.close()


def test_a_limit_and_a_pause_by_itself_are_named(settings: Settings, db: Db, campaign: int) -> None:
    limit = "day limit of server sink"
    db.run("UPDATE servers SET timezone = 'Asia/Singapore'")
    midnight = int(datetime(2035, 1, 1, tzinfo=ZoneInfo("Asia/Singapore")).timestamp() * 1000)
    Campaign.update(held_until=midnight, held_by=limit).execute()
    said = f"{limit}, free at 2035-01-01 00:00 +08:00"
    assert checked(settings, campaign)["blocked_by"] == said
    assert f"! waiting: {said}" in run(settings, "check-campaign", campaign).stdout
    look = Watcher(settings, db, campaign).look()
    assert f"waiting: {said}" in plain_line(look)
    Campaign.update(status="paused", reason="100 of 312 mails failed (32 %): 550 no").execute()
    text = run(settings, "check-campaign", campaign).stdout
    assert "paused (100 of 312 mails failed (32 %): 550 no)" in text
    assert "! it paused by itself" in text
    look = Watcher(settings, db, campaign).look()
    assert "paused by itself: 100 of 312 mails failed (32 %): 550 no" in plain_line(look)


def test_an_expander_that_cannot_work_is_named_while_the_campaign_is_expanded(
    settings: Settings, db: Db, campaign: int
) -> None:
    client = redis_client(f"{settings.redis_url}?db=14")
    plant(client, "send_00", FRESH)
    plant(client, "expand_00", FRESH, queues=["expand"], trouble="expansion: the database is in trouble: disk is full")
    said = "worker expand_00 on h: expansion: the database is in trouble: disk is full"
    assert said not in run(settings, "check-campaign", campaign).stdout, "it is expanded"
    db.run("UPDATE expansions SET state = 'running'")
    assert f"! {said}: bin/supervisor-manager logs expand --errors" in run(settings, "check-campaign", campaign).stdout
    assert checked(settings, campaign)["blocked_by"] is None, "what there is can be sent"
    db.run("DELETE FROM batches")
    assert checked(settings, campaign)["blocked_by"] == said
    client.flushdb()
    client.close()


def test_a_real_worker_without_room_for_its_journal_is_seen(settings: Settings, db: Db, campaign: int) -> None:
    url = f"{settings.redis_url}?db=14"
    Campaign.update(status="paused").execute()
    with WorkerProcess(settings, "--queues", "send", name="send_00", REDIS_URL=url) as worker:
        worker.wait_for("Signal handlers registered (SIGTERM, SIGINT, SIGQUIT)")
        # As on a full disk: no file of this process may grow to the size of a journal. It has none yet.
        resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
        Campaign.update(status="sending").execute()
        eventually(lambda: "no room for a journal" in str(checked(settings, campaign)["blocked_by"]), "it is seen")
        monitor = Watcher(replace(settings, redis_url=url), db, campaign).look()
        assert "no room for a journal" in plain_line(monitor)
    client = redis_client(url)
    client.flushdb()
    client.close()


def test_a_trouble_that_is_not_told_again_has_passed() -> None:
    troubles = Troubles()
    troubles.tell("sending", "no room")
    troubles.tell("housekeeping", "database away")
    assert troubles.text() == "sending: no room; housekeeping: database away"
    troubles.tell("sending", "")
    assert troubles.text() == "housekeeping: database away"
    assert troubles.text(time.monotonic() + PASSED_SECONDS) == ""


@pytest.mark.parametrize(
    ("status", "said"),
    [("draft", "campaigns schedule 1"), ("scheduled", "the next minute"), ("sent", "nothing is wrong")],
)
def test_the_next_step_depends_on_the_state(settings: Settings, campaign: int, status: str, said: str) -> None:
    Campaign.update(status=status).execute()
    assert said in run(settings, "check-campaign", campaign).stdout


@pytest.mark.parametrize("command", ["check-campaign", "monitor-campaign"])
@pytest.mark.parametrize(("wrong", "code"), [("77", 1), ("99999999999999999999", 1), ("x", 2)])
def test_an_unknown_campaign_is_said_to_be_unknown(
    settings: Settings, campaign: int, command: str, wrong: str, code: int
) -> None:
    done = run(settings, command, wrong)
    assert (done.returncode, done.stdout) == (code, "")
    assert "Traceback" not in done.stderr
    assert wrong in done.stderr


def test_in_a_pipe_the_monitor_prints_plain_lines_and_ends_with_the_campaign(
    settings: Settings, db: Db, campaign: int
) -> None:
    def finish() -> None:
        db.run("UPDATE batches SET state = 'done', sent = pending, pending = 0")
        Campaign.update(status="sent", finished_at=db.now_ms()).execute()
        db.close()

    with begin(settings, "monitor-campaign", campaign, 0.2) as monitor:
        assert monitor.stdout
        first = monitor.stdout.readline()
        finish()
        said = first + monitor.communicate(timeout=100)[0]
    lines = said.splitlines()
    assert monitor.returncode == 0
    assert len(lines) > 1
    assert "\x1b" not in said
    assert "0.0% 0/5" in lines[0]
    assert "WARNING: there is work and no worker" in lines[0]
    assert "sent 100.0% 5/5" in lines[-1]


@pytest.mark.parametrize(("status", "code"), [("sent", 0), ("cancelled", 0), ("failed", 1)])
def test_the_monitor_of_an_ended_campaign_ends_at_once(
    settings: Settings, campaign: int, status: str, code: int
) -> None:
    Campaign.update(status=status).execute()
    done = run(settings, "monitor-campaign", campaign)
    assert done.returncode == code
    assert len(done.stdout.splitlines()) == 1


def test_the_monitor_goes_on_without_redis(settings: Settings, campaign: int) -> None:
    Campaign.update(status="sent").execute()
    done = run(settings, "monitor-campaign", campaign, redis_url="unix:///nowhere/redis.sock")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("seconds", ["nan", "inf", "-1", "1e10", "soon"])
def test_an_impossible_interval_is_refused(
    settings: Settings, campaign: int, capsys: pytest.CaptureFixture[str], seconds: str
) -> None:
    with pytest.raises(SystemExit) as refused:
        main([str(campaign), seconds])
    assert refused.value.code == 2
    assert f"argument SECONDS: '{seconds}': a number of seconds from 0 to 86400" in capsys.readouterr().err


def test_an_interval_of_nothing_does_not_spin(settings: Settings, campaign: int) -> None:
    Campaign.update(status="sent").execute()
    assert run(settings, "monitor-campaign", campaign, "0").returncode == 0


def test_a_reader_that_leaves_ends_the_monitor(settings: Settings, db: Db, campaign: int) -> None:
    environment = {
        **os.environ, "MAILCREW_HOME": str(settings.home), "DATABASE_URL": settings.database_url,
        "REDIS_URL": "unix:///nowhere/redis.sock",
    }  # fmt: skip

    ended = threading.Event()

    def change() -> None:
        """On a busy machine nobody knows when the first line is out: so there is always another."""
        while not ended.wait(0.5):
            db.run("UPDATE batches SET sent = sent + 1")
        db.close()

    changing = threading.Thread(target=change)
    changing.start()
    done = subprocess.run(
        ["bash", "-c", f"{ROOT}/bin/monitor-campaign {campaign} 0.2 | head -n 1; echo ${{PIPESTATUS[0]}}"],
        env=environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    ended.set()
    changing.join()
    assert done.stdout.splitlines()[-1] == "0"
    assert done.stderr == ""

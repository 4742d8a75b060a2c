"""What /metrics says is what database and Redis hold; every metric is documented, and every alert asks for one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import dramatiq
import pytest
import redis
import yaml

from app.campaigns.lifecycle import find_campaign
from app.config import ROOT, Settings
from app.db import Db, connect
from app.mail.notices import post
from app.models.counters import Counted, count
from app.models.states import CampaignStatus
from app.models.tables import Batch, Campaign, Server, Token
from app.models.tokens import create_token
from app.queues.broker import make_broker, redis_client
from app.queues.tickets import enqueue
from app.scaling.history import History, Record
from app.schedules.search import LATE_MS
from app.web.application import create_app
from tests.schedules.people import add_users
from tests.scraping import Scraped, documented
from tests.sending import NOW, add_list, add_people, draft, expand, own_redis, start
from tests.web import Caller, caller, plant

EXAMPLES = ROOT / "examples" / "prometheus"


@pytest.fixture
def here(db: Db, settings: Settings, redis_server: str) -> Iterator[Settings]:
    with own_redis(settings, redis_server, 13) as found:
        yield found


@pytest.fixture
def client(here: Settings) -> Iterator[redis.Redis]:
    client = redis_client(here.redis_url)
    yield client
    client.close()


def scrape(settings: Settings, db: Db) -> Scraped:
    answer = reader(settings, db).get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    return Scraped(answer.text)


def reader(settings: Settings, db: Db) -> Caller:
    """Somebody who reads, of a web service that has just started."""
    Token.delete().execute()
    return caller(create_app(settings, db=db), "read")


def add_servers(db: Db) -> None:
    """One with limits, one that cools down."""
    common = {"host": "h", "port": 25, "tls": "none", "created_at": NOW}
    Server.create(name="ses", per_second=5, per_day=100, **common)
    Server.create(name="own", cooldown_until=db.now_ms() + 60_000, cooldown_reason="451", **common)


def add_campaign(db: Db, settings: Settings, people: int, name: str) -> int:
    """A sending campaign to so many new people; its id."""
    add_list(db, name, add_people(db, people, name))
    campaign_id = draft(db, [name])
    start(db, campaign_id)
    expand(db, settings, campaign_id)
    return campaign_id


def test_every_metric_is_documented_with_its_type_and_its_labels(db: Db, here: Settings, client: redis.Redis) -> None:
    add_servers(db)
    plant(client, 1)
    History().keep(db, [record("send", 2, 4)])
    found, rows = scrape(here, db), documented()

    assert set(found.families) == set(rows)
    for name, family in found.families.items():
        assert family.type == rows[name].kind, name
        assert family.samples, f"{name} has no sample here, so nobody has looked at its labels"
        assert {frozenset(sample.labels) for sample in family.samples} == {rows[name].labels}, name


def test_the_names_are_as_prometheus_wants_them(db: Db, here: Settings) -> None:
    for name, family in scrape(here, db).families.items():
        assert re.fullmatch(r"mailcrew(_[a-z]+)+", name), name
        assert name.endswith("_total") == (family.type == "counter"), name
        assert not re.search(r"_(ms|milliseconds|minutes|mb|megabytes|percent|count)$", name), name
        assert re.fullmatch(r"[A-Z].*\.", family.documentation), name


def test_queues_and_workers_are_counted_by_queue(db: Db, here: Settings, client: redis.Redis) -> None:
    broker = make_broker(here.redis_url)
    for _ in range(3):
        enqueue(broker, "expand", "expand", [1])
    first = dramatiq.Message.decode(broker.do_fetch("expand", 2)[0])
    broker.do_nack("expand", first.options["redis_message_id"])
    later: dramatiq.Message[None] = dramatiq.Message(queue_name="mail", actor_name="a", args=(), kwargs={}, options={})
    broker.enqueue(later, delay=60_000)
    plant(client, 1, is_processing=True, rss_mb=40.5)
    plant(client, 2, trouble="the database is away")
    plant(client, 3, queues=["campaign_7"])
    client.hset("mailcrew:counted", mapping={"recovered expand": 4, "quarantined expand": 1, "recovered gone": 2})

    found = scrape(here, db)

    for what, counts in {
        "waiting_messages": {"expand": 1}, "in_flight_messages": {"expand": 1}, "delayed_messages": {"mail": 1},
        "dead_letters": {"expand": 1},
    }.items():  # fmt: skip
        every = dict.fromkeys(("periodic", "mail", "expand", "send", "monitor"), 0)
        assert found.values(f"mailcrew_queue_{what}", "queue") == {**every, **counts}, what
    ages = found.values("mailcrew_queue_oldest_message_age_seconds", "queue")
    assert 0 <= ages["expand"] < 60
    assert ages["mail"] == 0
    workers = found.values("mailcrew_workers", "queue")
    assert workers == {"periodic": 0, "mail": 0, "expand": 0, "send": 2, "monitor": 0, "campaign_7": 1}
    assert found.value("mailcrew_workers_busy", queue="send") == 1
    assert found.value("mailcrew_workers_in_trouble", queue="send") == 1
    assert found.value("mailcrew_workers_resident_memory_bytes", queue="send") == 80_500_000
    recovered = found.values("mailcrew_messages_recovered_total", "queue")
    assert (recovered["expand"], recovered["gone"], recovered["mail"]) == (4, 2, 0)
    assert found.value("mailcrew_messages_quarantined_total", queue="expand") == 1
    broker.close()


def test_servers_tell_what_they_did_and_may_do(db: Db, here: Settings) -> None:
    add_servers(db)
    minute = db.now_ms() // 60_000
    head = "INSERT INTO deliveries (server_id, minute, campaign_id, attempts, sent, failed, deferred, unknown)"
    # Long ago, today for two campaigns, and for none: a notice.
    db.run_many(head, [(1, 5, 1, 9, 9, 0, 0, 0), (1, minute, 1, 7, 3, 2, 1, 1)])
    db.run_many(head, [(1, minute, 2, 2, 2, 0, 0, 0), (1, minute, 0, 1, 1, 0, 0, 0)])
    Server.create(name="old", host="h", port=25, tls="none", state="removed", created_at=NOW)
    db.run_many(head, [(3, 6, 1, 4, 4, 0, 0, 0)])

    found = scrape(here, db)

    expected = {"attempted": (19, 4), "sent": (15, 4), "failed": (2, 0), "deferred": (1, 0), "unknown": (1, 0)}
    for what, (ses, old) in expected.items():
        assert found.values(f"mailcrew_mails_{what}_total", "server") == {"ses": ses, "own": 0, "old": old}, what
    assert found.values("mailcrew_server_can_send", "server") == {"ses": 1, "own": 0}
    cooling = found.values("mailcrew_server_cooldown_seconds", "server")
    assert cooling["ses"] == 0
    assert 0 < cooling["own"] <= 60
    limits = {s.labels["window"]: s.value for s in found.families["mailcrew_server_limit_mails"].samples}
    assert limits == {"second": 5, "day": 100}
    # Redis knows nothing of them, so what the database counted today is used.
    assert found.value("mailcrew_server_limit_used_mails", server="ses", window="day") == 10
    assert found.value("mailcrew_server_limit_used_mails", server="ses", window="hour") is None


def test_campaigns_and_their_recipients_are_counted(db: Db, here: Settings) -> None:
    add_servers(db)
    sending, paused = add_campaign(db, here, 130, "a"), add_campaign(db, here, 40, "b")
    draft(db, ["a"])
    Batch.update(state="leased").where((Batch.campaign_id == sending) & (Batch.number == 2)).execute()
    Campaign.update(status=CampaignStatus.PAUSED).where(Campaign.id == paused).execute()

    found = scrape(here, db)

    expected = {status.value: 0 for status in CampaignStatus} | {"draft": 1, "sending": 1, "paused": 1}
    assert found.values("mailcrew_campaigns", "status") == expected
    pending = found.values("mailcrew_recipients_pending", "state")
    assert pending == {"due": 100, "later": 0, "in_hand": 30, "paused": 40}
    since = (db.now_ms() - int(find_campaign(sending).started_at or 0)) / 1000
    assert abs((found.value("mailcrew_recipients_oldest_due_age_seconds") or 0) - since) < 30


def record(queue: str, workers: int, target: int, at: int = NOW) -> Record:
    return Record(at, "h", queue, workers, target, 1, 0, None, None, None, "because")


def test_scaling_shows_what_is_wanted_and_counts_what_was_decided(db: Db, here: Settings) -> None:
    history = History()
    history.keep(db, [record("send", 2, 4), record("mail", 1, 1)])
    history.keep(db, [record("send", 4, 3, NOW + 10_000), record("send", 3, 5, NOW + 20_000)])

    found = scrape(here, db)

    assert found.values("mailcrew_workers_wanted", "queue") == {"send": 5, "mail": 1}
    assert found.value("mailcrew_scaling_decision_timestamp_seconds", queue="send") == NOW / 1000 + 20
    assert found.value("mailcrew_scaling_decisions_total", queue="send", direction="up") == 2
    assert found.value("mailcrew_scaling_decisions_total", queue="send", direction="down") == 1
    assert found.value("mailcrew_scaling_decisions_total", queue="mail", direction="up") == 0
    assert found.values("mailcrew_workers_min", "queue")["send"] == 2
    assert found.values("mailcrew_workers_max", "queue")["send"] == 20


def test_schedules_and_notices_are_counted(db: Db, here: Settings) -> None:
    now = db.now_ms()
    add_users(db, 3, due=now - LATE_MS - 5_000)
    add_users(db, 2, due=now - 1_000)
    add_users(db, 1, due=now + 60_000, enabled=0)
    post(db, kind="mail", target="ann@example.test", subject="s", body="b", now=now)

    found = scrape(here, db)

    figures = {what: found.value(f"mailcrew_schedules_{what}") for what in ("due", "late", "waiting", "running", "off")}
    assert figures == {"due": 5, "late": 3, "waiting": 0, "running": 0, "off": 1}
    assert (LATE_MS + 5_000) / 1000 <= (found.value("mailcrew_schedules_lag_seconds") or 0) < LATE_MS / 1000 + 65
    assert found.values("mailcrew_notices", "state") == {"waiting": 1, "sending": 0, "failed": 0}


def test_without_redis_the_page_says_so_and_what_the_database_knows(db: Db, here: Settings) -> None:
    add_servers(db)
    add_campaign(db, here, 30, "a")
    whole = set(scrape(here, db).families)

    found = scrape(replace(here, redis_url="unix:///nowhere/redis.sock"), db)

    assert set(found.families) == whole
    assert (found.value("mailcrew_redis_up"), found.value("mailcrew_database_up")) == (0, 1)
    for name in ("mailcrew_queue_waiting_messages", "mailcrew_workers", "mailcrew_messages_recovered_total"):
        assert found.families[name].samples == [], name
    assert found.value("mailcrew_recipients_pending", state="due") == 30
    assert found.value("mailcrew_mails_sent_total", server="own") == 0
    # A limit that nobody can count is not sent over.
    assert found.value("mailcrew_server_can_send", server="ses") == 0
    assert found.families["mailcrew_server_limit_used_mails"].samples == []


@contextmanager
def silent(db: Db, url: str, table: str) -> Iterator[None]:
    """As long as this lasts nothing is heard of this table."""
    if db.dialect == "sqlite":
        db.run(f"ALTER TABLE {table} RENAME TO gone")
        yield
        return
    holder = connect(url)
    holder.run(f"LOCK TABLES {table} WRITE")
    try:
        yield
    finally:
        holder.close()


def test_without_a_database_nobody_is_recognized(db: Db, here: Settings) -> None:
    me = Caller(create_app(here), create_token("me", "read", NOW))
    with silent(db, here.database_url, "tokens"):
        assert me.get("/metrics").status_code == 503


def test_what_the_database_does_not_answer_is_missing_and_the_rest_is_there(db: Db, here: Settings) -> None:
    me = Caller(create_app(here), create_token("me", "read", NOW))
    with silent(db, here.database_url, "batches"):
        found = Scraped(me.get("/metrics").text)
    assert (found.value("mailcrew_redis_up"), found.value("mailcrew_database_up")) == (1, 0)
    assert found.value("mailcrew_workers", queue="send") == 0
    assert found.families["mailcrew_campaigns"].samples == []


def test_counters_go_on_after_a_restart_of_the_web_service(db: Db, here: Settings, client: redis.Redis) -> None:
    add_servers(db)
    client.hset("mailcrew:counted", "recovered send", 3)
    count(db, Counted.LEASES_RECOVERED, {"": 2})
    count(db, Counted.MAILS_RECOVERED, {"recorded": 5, "unknown": 1})
    count(db, Counted.MAILS_RECOVERED, {"recorded": 1, "unknown": 0})
    before = scrape(here, db).counters()
    assert before["mailcrew_mails_recovered_total", frozenset({("outcome", "recorded")})] == 6

    assert scrape(here, db).counters() == before


def test_who_asks_for_openmetrics_gets_it(db: Db, here: Settings) -> None:
    answer = reader(here, db).ask("GET", "/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert answer.text.endswith("# EOF\n")
    assert set(Scraped(answer.text).families) == set(documented())


def test_a_label_says_what_a_server_is_called_whatever_that_is(db: Db, here: Settings) -> None:
    name = 'a "quoted\\" name 服务器'
    Server.create(name=name, host="h", port=25, tls="none", created_at=NOW)
    assert scrape(here, db).value("mailcrew_mails_sent_total", server=name) == 0


def rules() -> list[dict[str, Any]]:
    read = yaml.safe_load((EXAMPLES / "mailcrew.rules.yml").read_text("utf-8"))
    return [rule for group in read["groups"] for rule in group["rules"]]


def test_the_example_alerts_ask_for_metrics_and_labels_that_exist() -> None:
    known = documented()
    for rule in rules():
        assert set(rule) <= {"alert", "expr", "for", "annotations"}, rule
        assert rule["annotations"]["summary"], rule["alert"]
        asked = re.findall(r"\b(mailcrew_\w+)(?:\{([^}]*)\})?", rule["expr"])
        assert asked or "up{" in rule["expr"], rule["alert"]
        for name, matchers in asked:
            assert name in known, (rule["alert"], name)
            assert set(re.findall(r"(\w+)\s*[=!]", matchers)) <= known[name].labels, (rule["alert"], name)
        said = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])) - {"instance", "job"}
        assert all(said <= known[name].labels for name, _ in asked), rule["alert"]


def test_the_example_configuration_names_the_rules_and_a_token_in_a_file() -> None:
    read = yaml.safe_load((EXAMPLES / "prometheus.yml").read_text("utf-8"))
    assert [name for name in read["rule_files"] if not (EXAMPLES / name).is_file()] == []
    (job,) = read["scrape_configs"]
    assert job["authorization"]["credentials_file"]
    # Prometheus asks for /metrics by itself, and calls the job what the alert of `up` calls it.
    assert "metrics_path" not in job
    assert any(f'up{{job="{job["job_name"]}"}}' in rule["expr"] for rule in rules())

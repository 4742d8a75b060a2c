"""/api/queues and /api/campaigns: the numbers of the command line, read from the same places."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import dramatiq
import pytest
import redis

from app.campaigns.lifecycle import find_campaign
from app.cli.look import Watcher
from app.config import Settings
from app.db import Db
from app.mail.servers import add_server
from app.queues.broker import make_broker
from app.queues.tickets import enqueue
from app.web.application import create_app
from tests.sending import NOW, add_list, add_people, draft, expand, start
from tests.web import Caller, caller, error_of, plant


@pytest.fixture
def here(db: Db, settings: Settings, redis_server: str) -> Settings:
    return replace(settings, redis_url=f"{redis_server}?db=11")


@pytest.fixture
def reader(db: Db, here: Settings, client: redis.Redis) -> Caller:
    return caller(create_app(here, db=db), "read")


def test_the_queues_of_the_table_are_counted(reader: Caller, here: Settings, client: redis.Redis) -> None:
    broker = make_broker(here.redis_url)
    for _ in range(5):
        enqueue(broker, "send", "deliver")
    first = dramatiq.Message.decode(broker.do_fetch("send", 2)[0])
    broker.do_nack("send", first.options["redis_message_id"])
    message: dramatiq.Message[None] = dramatiq.Message(
        queue_name="mail", actor_name="a", args=(), kwargs={}, options={}
    )
    broker.enqueue(message, delay=60_000)
    plant(client, 1, queues=["expand", "send"])
    plant(client, 2, queues=["send"], is_processing=True)

    queues = {queue["name"]: queue for queue in reader.get("/api/queues").get_json()}

    assert list(queues) == ["periodic", "mail", "expand", "send", "monitor"]
    assert 0 <= queues["send"].pop("oldest_seconds") < 60
    nobody = {"waiting": 0, "later": 0, "in_hand": 0, "oldest_seconds": None, "rate_per_second": 0}
    assert queues["send"] == {
        "name": "send", "waiting": 3, "in_hand": 1, "delayed": 0, "dead": 1, "workers": 2, "busy": 1,
        "recipients": nobody,
    }  # fmt: skip
    assert queues["mail"] == {
        "name": "mail", "waiting": 0, "in_hand": 0, "delayed": 1, "dead": 0, "oldest_seconds": None, "workers": 0,
        "busy": 0, "recipients": None,
    }  # fmt: skip
    assert queues["expand"]["workers"] == 1
    broker.close()


def test_a_table_with_a_mistake_is_none_of_the_callers(db: Db, here: Settings, tmp_path: Path) -> None:
    (tmp_path / "supervisor").mkdir()
    (tmp_path / "supervisor" / "queues.toml").write_text("[[queue]]\nname = 5\n")
    response = caller(create_app(here, tmp_path, db), "read").get("/api/queues")
    assert response.status_code == 503
    assert "queues.toml" in error_of(response)["message"]


@pytest.fixture
def campaign(db: Db, here: Settings) -> int:
    add_server(name="sink", host="127.0.0.1", port=25, tls="none", now=NOW)
    add_list(db, "all", add_people(db, 250))
    campaign_id = draft(db, ["all"])
    start(db, campaign_id)
    expand(db, here, campaign_id)
    return campaign_id


def test_a_campaign_is_the_same_document_as_on_the_command_line(
    reader: Caller, here: Settings, db: Db, client: redis.Redis, campaign: int
) -> None:
    plant(client, 1)
    document = reader.get(f"/api/campaigns/{campaign}").get_json()
    said = Watcher(here, db, campaign).look().document()
    # What counts down between the two looks.
    moving = {"blocked_by", "eta_seconds", "rate_per_second"}
    assert list(document) == list(said)
    assert {k: v for k, v in document.items() if k not in moving} == {k: v for k, v in said.items() if k not in moving}
    assert (document["id"], document["recipients"], document["workers"]) == (campaign, 250, 1)


def test_a_campaign_whose_workers_are_in_trouble_says_so(reader: Caller, client: redis.Redis, campaign: int) -> None:
    plant(client, 1, trouble="sending: no room for a journal in /j")
    said = reader.get(f"/api/campaigns/{campaign}").get_json()["blocked_by"]
    assert said.endswith(": sending: no room for a journal in /j")
    plant(client, 2)
    assert reader.get(f"/api/campaigns/{campaign}").get_json()["blocked_by"] is None, "another one works"


def test_a_campaign_is_shown_without_redis(db: Db, here: Settings, campaign: int, tmp_path: Path) -> None:
    away = replace(here, redis_url=f"unix://{tmp_path}/none.sock")
    alone = caller(create_app(away, db=db), "read")
    document = alone.get(f"/api/campaigns/{campaign}").get_json()
    assert (document["queue"], document["workers"], document["recipients"]) == (None, None, 250)


def test_campaigns_are_listed_the_newest_first_page_by_page(reader: Caller, db: Db, campaign: int) -> None:
    ids = [campaign, *(draft(db, ["all"]) for _ in range(4))][::-1]
    listed = reader.get("/api/campaigns").get_json()
    assert [one["id"] for one in listed] == ids
    assert listed[-1]["status"] == find_campaign(campaign).status
    assert [one["id"] for one in reader.get("/api/campaigns?limit=2").get_json()] == ids[:2]
    assert [one["id"] for one in reader.get(f"/api/campaigns?limit=2&before={ids[1]}").get_json()] == ids[2:4]
    assert reader.get(f"/api/campaigns?before={ids[-1]}").get_json() == []


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "limit=", "limit=²", "before=-1", "before=1e3"])
def test_a_wrong_page_is_refused_with_its_name(reader: Caller, query: str) -> None:
    response = reader.get(f"/api/campaigns?{query}")
    assert response.status_code == 400
    assert error_of(response)["field"] == query.partition("=")[0]

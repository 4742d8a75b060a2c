"""/api/campaigns/ID/recipients, replies, servers, unknown; and totals of many campaigns."""

from __future__ import annotations

import pytest
from flask import Flask

from app.campaigns.lifecycle import find_campaign
from app.campaigns.progress import progress_of
from app.campaigns.recipients import recipients_of
from app.campaigns.told import NEWEST_BATCHES, replies_of, without_marks
from app.campaigns.totals import totals_of
from app.config import Settings
from app.db import Db
from app.mail.servers import add_server
from app.web.application import create_app
from tests.sending import NOW, add_list, add_people, draft, expand, start
from tests.web import Caller, caller, error_of

BOUNCE = "550 5.1.1 <p{0}@example.test>: no such user; id=4Fx9{0}0aBcDeF"


@pytest.fixture
def app(db: Db, settings: Settings) -> Flask:
    return create_app(settings, db=db)


@pytest.fixture
def reader(app: Flask) -> Caller:
    return caller(app, "read")


@pytest.fixture
def campaign(db: Db, settings: Settings) -> int:
    """250 recipients in three batches: 7 failed, 2 unknown, 1 skipped, batch 3 in a worker's hands, one sent."""
    server = add_server(name="sink", host="127.0.0.1", port=25, tls="none", now=NOW)
    add_list(db, "all", add_people(db, 250))
    campaign_id = draft(db, ["all"])
    start(db, campaign_id)
    expand(db, settings, campaign_id)
    ids = [int(row[0]) for row in db.rows("SELECT subscriber_id FROM recipients ORDER BY batch, subscriber_id")]
    for number, subscriber in enumerate([*ids[:6], ids[150]]):
        settle(db, campaign_id, subscriber, "failed", BOUNCE.format(number), server)
    for subscriber in (ids[8], ids[120]):
        settle(db, campaign_id, subscriber, "unknown", "in doubt", server)
    settle(db, campaign_id, ids[9], "skipped", "suppressed", None)
    settle(db, campaign_id, ids[10], "sent", "250 ok", server)
    db.run("UPDATE batches SET state = 'leased', lease_until = ? WHERE number = 3", db.now_ms() + 60_000)
    return campaign_id


def settle(db: Db, campaign_id: int, subscriber: int, state: str, reason: str, server: int | None) -> None:
    (batch,) = db.rows("SELECT batch FROM recipients WHERE subscriber_id = ?", subscriber)[0]
    db.run(
        "UPDATE recipients SET state = ?, reason = ?, server_id = ?, tried_at = ?, attempts = 1 "
        "WHERE subscriber_id = ?",
        state, reason, server, NOW, subscriber,
    )  # fmt: skip
    db.run(f"UPDATE batches SET pending = pending - 1, {state} = {state} + 1 WHERE number = ?", batch)


def all_pages(reader: Caller, path: str) -> list[str]:
    """The addresses of every page, following the links."""
    found: list[str] = []
    while path:
        answer = reader.get(path)
        assert answer.status_code == 200, answer.text
        found += [one["email"] for one in answer.get_json()]
        path = answer.headers.get("Link", "").partition("<")[2].partition(">")[0]
    return found


@pytest.mark.parametrize("state", ["", "pending", "sending", "sent", "failed", "skipped", "unknown"])
@pytest.mark.parametrize("limit", [1, 7, 1000])
def test_the_pages_of_a_state_are_the_command_lines_list(
    reader: Caller, db: Db, campaign: int, state: str, limit: int
) -> None:
    if limit == 1 and state in ("", "pending", "sending"):
        limit = 40
    told = [one.email for one in recipients_of(db, find_campaign(campaign), state=state or None)]
    query = f"?limit={limit}" + (f"&state={state}" if state else "")
    assert all_pages(reader, f"/api/campaigns/{campaign}/recipients{query}") == told
    assert told


def test_a_recipient_is_found_by_how_the_address_begins(reader: Caller, campaign: int) -> None:
    path = f"/api/campaigns/{campaign}/recipients"
    found = reader.get(f"{path}?email=P24").get_json()
    assert [one["email"] for one in found] == [f"p{n}@example.test" for n in (240, 241, 242, 243, 244, 245, 246, 247,
                                                                              248, 249, 24)]  # fmt: skip
    assert all_pages(reader, f"{path}?email=p24&limit=3") == [one["email"] for one in found]
    (exact,) = reader.get(f"{path}?email=p1@example.test").get_json()
    assert (exact["state"], exact["server"], exact["attempts"]) == ("failed", "sink", 1)
    assert exact["reason"] == BOUNCE.format(0)
    assert exact["tried_at"].endswith("+00:00")
    assert reader.get(f"{path}?email=p1@example.test&state=sent").get_json() == []
    assert reader.get(f"{path}?email=nobody").get_json() == []


@pytest.mark.parametrize(
    ("query", "field"),
    [("state=bad", "state"), ("limit=0", "limit"), (f"email={'x' * 321}", "email"), ("after=x", None)],
)
def test_a_wrong_question_is_refused_by_name(reader: Caller, campaign: int, query: str, field: str | None) -> None:
    refused = reader.get(f"/api/campaigns/{campaign}/recipients?{query}")
    assert refused.status_code == 400
    assert error_of(refused)["field"] == field


def test_what_went_wrong_is_counted_by_reply_whoever_it_was_about(reader: Caller, campaign: int) -> None:
    told = reader.get(f"/api/campaigns/{campaign}/replies").get_json()
    assert told == {
        "replies": [
            {"state": "failed", "reason": "550 5.1.1 …: no such user; id=…", "count": 7},
            {"state": "unknown", "reason": "in doubt", "count": 2},
            {"state": "skipped", "reason": "suppressed", "count": 1},
        ],
        "newest_only": False,
    }  # fmt: skip
    assert reader.get("/api/campaigns/99/replies").status_code == 404


def test_of_many_failures_the_newest_are_counted(db: Db, campaign: int) -> None:
    db.run_many(
        "INSERT INTO batches (campaign_id, number, state, ready_at, pending, failed)",
        [(campaign, number, "done", 0, 0, 1) for number in range(10, 11 + NEWEST_BATCHES)],
    )
    assert replies_of(db, campaign)[1] is True


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        ("550 5.1.1 <a.b+c@x.example>: unknown", "550 5.1.1 …: unknown"),
        ("452 4.2.2 mailbox full", "452 4.2.2 mailbox full"),
        ("421 4.7.0 try later x12si1234567qkb.123", "421 4.7.0 try later …"),
        ("550 line\n  two", "550 line two"),
    ],
)
def test_marks_in_a_reply_are_left_out(reply: str, told: str) -> None:
    assert without_marks(reply) == told


def test_every_server_has_its_share(reader: Caller, db: Db, campaign: int) -> None:
    (server_id,) = db.rows("SELECT id FROM servers")[0]
    columns = "(server_id, minute, campaign_id, attempts, sent, failed, deferred, unknown)"
    for minute in (1, 2):
        db.run(f"INSERT INTO deliveries {columns} VALUES (?, ?, ?, 10, 5, 3, 1, 1)", server_id, minute, campaign)
    assert reader.get(f"/api/campaigns/{campaign}/servers").get_json() == [
        {"server": "sink", "attempts": 20, "sent": 10, "failed": 6, "deferred": 2, "unknown": 2}
    ]


def test_the_unknown_are_settled_by_a_decision(app: Flask, db: Db, campaign: int) -> None:
    sender, path = caller(app, "send"), f"/api/campaigns/{campaign}/unknown"
    assert error_of(sender.post(path, {"action": "forget"}))["field"] == "action"
    assert sender.post(path, {"action": "settle"}).get_json() == {"decided": 2, "in_hand": 0}
    assert db.value("SELECT COUNT(*) FROM recipients WHERE state = 'unknown'") == 0
    assert caller(app, "read").post(path, {"action": "settle"}).status_code == 403


def test_totals_of_many_are_what_each_says_of_itself(db: Db, campaign: int) -> None:
    other = draft(db, ["all"])
    totals = totals_of(db, [campaign, other])
    progress = progress_of(db, find_campaign(campaign), db.now_ms())
    for name in ("pending", "sending", "sent", "failed", "skipped", "unknown", "recipients", "done"):
        assert getattr(totals[campaign], name) == getattr(progress, name), name
    assert totals[other].recipients == 0
    assert totals_of(db, []) == {}

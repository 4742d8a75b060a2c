"""What changed since the expansion is seen when a batch is loaded, and costs nothing while nothing changed."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest

from app.campaigns.batches import Lease, lease_next, new_token
from app.campaigns.mails import mails_of
from app.clock import in_utc
from app.config import Settings
from app.db import Db
from app.lists.importing import import_csv
from app.lists.memberships import forget, remove, unsubscribe
from app.lists.suppressing import Wanted, add_rules, reach_all
from app.mail.servers import add_server
from app.mail.suppression import parse_rule
from app.models.tables import Batch, Campaign, Recipient
from tests.sending import NOW, add_list, add_people, add_test_server, draft, expand, send_all, start
from tests.smtp_server import SmtpServer
from tests.statements import recorded


@pytest.fixture
def campaign(db: Db, settings: Settings) -> int:
    """An expanded campaign to nine people on two lists, three of them on both."""
    add_server(name="sink", host="127.0.0.1", port=25, tls="none", now=NOW)
    people = add_people(db, 9)
    add_list(db, "a", people[:6])
    add_list(db, "b", people[3:])
    campaign_id = draft(db, ["a", "b"])
    start(db, campaign_id)
    expand(db, settings, campaign_id)
    return campaign_id


def load(db: Db) -> Lease:
    lease = lease_next(db, token=new_token(), journal="j", only=None, now=db.now_ms(), monotonic=0.0, lease_seconds=30)
    assert lease is not None
    return lease


def skips(db: Db) -> dict[str, str]:
    """Who of all is not to be mailed, and why."""
    db.run("UPDATE batches SET state = 'ready' WHERE state = 'leased'")
    found: dict[str, str] = {}
    for _ in range(int(db.value("SELECT COUNT(*) FROM batches WHERE state = 'ready'"))):
        found |= {m.email.partition("@")[0]: m.skip_reason for m in mails_of(db, load(db)) if m.skip_reason}
    return found


def said(email: str, word: str, db: Db) -> str:
    changed = db.value(
        "SELECT MAX(m.updated_at) FROM memberships m JOIN subscribers s ON s.id = m.subscriber_id WHERE s.email = ?",
        f"{email}@example.test",
    )
    return f"{word} {in_utc(int(changed))}"


def test_who_left_every_list_is_not_mailed(db: Db, campaign: int) -> None:
    assert skips(db) == {}
    unsubscribe(db, "a", "p1@example.test")
    unsubscribe(db, "a", "p4@example.test")
    assert skips(db) == {"p1": said("p1", "unsubscribed on", db)}
    unsubscribe(db, "b", "p4@example.test")
    remove(db, "a", "p5@example.test")
    remove(db, "b", "p5@example.test")
    remove(db, "a", "p6@example.test")
    assert skips(db) == {
        "p1": said("p1", "unsubscribed on", db),
        "p4": said("p4", "unsubscribed on", db),
        "p5": said("p5", "taken off the list on", db),
    }
    assert re.fullmatch(r"unsubscribed on 20\d\d-\d\d-\d\d \d\d:\d\d UTC", skips(db)["p1"])


def test_who_is_on_another_list_now_is_not_kept_by_that(db: Db, campaign: int) -> None:
    add_list(db, "c", [1])
    unsubscribe(db, "a", "p1@example.test")
    assert list(skips(db)) == ["p1"]


def test_an_unsubscription_counts_whatever_the_clock_says(
    db: Db, campaign: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    unsubscribe(db, "a", "p1@example.test")
    with monkeypatch.context() as patch:
        patch.setattr(db, "now_ms", lambda: 1_000)
        unsubscribe(db, "b", "p9@example.test")
        unsubscribe(db, "a", "p2@example.test")
    assert list(skips(db)) == ["p1", "p2", "p9"]
    assert skips(db)["p9"] == "unsubscribed on 1970-01-01 00:00 UTC"


def test_saying_it_again_keeps_the_day(db: Db, campaign: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(db, "now_ms", lambda: 86_400_000)
        unsubscribe(db, "a", "p1@example.test")
    unsubscribe(db, "a", "p1@example.test")
    assert skips(db) == {"p1": "unsubscribed on 1970-01-02 00:00 UTC"}


@pytest.mark.parametrize("status", ["unsubscribed", "blocked"])
def test_an_import_unsubscribes_those_of_a_campaign_under_way(
    db: Db, campaign: int, tmp_path: Path, status: str
) -> None:
    text = f"email,status\np2@example.test,{status}\np3@example.test,active\n".encode()
    import_csv(db, io.BytesIO(text), list_to="a", rejects_in=tmp_path, file_name="left.csv")
    reason = "blocked: an import said so" if status == "blocked" else said("p2", "unsubscribed on", db)
    assert skips(db) == {"p2": reason}


def test_who_was_forgotten_and_comes_back_on_another_list_is_not_mailed(db: Db, campaign: int, tmp_path: Path) -> None:
    forget(db, "p1@example.test")
    assert skips(db) == {"p1": "deleted"}
    import_csv(
        db, io.BytesIO(b"email\np1@example.test\n"), list_to="other", rejects_in=tmp_path, file_name="people.csv"
    )
    assert list(skips(db)) == ["p1"]
    assert skips(db)["p1"].startswith("taken off the list on ")


def test_the_reason_of_a_status_is_told(db: Db, campaign: int) -> None:
    add_rules(db, [Wanted(parse_rule("p1@example.test"), "test")])
    db.run("UPDATE subscribers SET status = 'bounced', status_reason = 'bounced: test' WHERE id = 2")
    db.run("UPDATE subscribers SET status = 'blocked' WHERE id = 3")
    assert skips(db) == {"p1": "blocked: address rule", "p2": "bounced: test", "p3": "blocked"}


def test_a_rule_that_is_on_its_way_holds_already(db: Db, campaign: int) -> None:
    db.run("UPDATE subscribers SET email_key = 'p1@mail.x.test' WHERE id = 1")
    db.run("UPDATE subscribers SET email_key = 'p2@x.test', status = 'bounced' WHERE id = 2")
    add_rules(db, [Wanted(parse_rule("@x.test"), "test")])
    assert skips(db) == {"p1": "blocked: domain rule @x.test", "p2": "bounced"}
    reach_all(db)
    assert skips(db) == {"p1": "blocked: domain rule @x.test", "p2": "bounced"}


def test_nothing_more_is_asked_while_nothing_changed(db: Db, campaign: int, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = load(db)
    asked = recorded(db, monkeypatch)
    mails_of(db, lease)
    assert len(asked) == 1
    unsubscribe(db, "a", "p1@example.test")
    asked.clear()
    mails_of(db, lease)
    assert len(asked) == 2


def test_nobody_who_left_is_mailed_over_smtp(db: Db, settings: Settings) -> None:
    with SmtpServer() as server:
        add_list(db, "all", add_people(db, 8))
        add_test_server(server)
        campaign_id = draft(db, ["all"])
        start(db, campaign_id)
        expand(db, settings, campaign_id)
        unsubscribe(db, "all", "p2@example.test")
        add_rules(db, [Wanted(parse_rule("p3@example.test"), "test")])
        forget(db, "p4@example.test")
        assert send_all(db, settings) == 5
    assert set(server.counts()) == {f"p{i}@example.test" for i in (1, 5, 6, 7, 8)}
    assert Campaign.get_by_id(campaign_id).status == "sent"
    batch = Batch.get(Batch.campaign_id == campaign_id)
    assert (batch.state, batch.sent, batch.skipped) == ("done", 5, 3)
    reasons = [str(r.reason) for r in Recipient.select().where(Recipient.state == "skipped")]
    assert sorted(reasons)[:2] == ["blocked: address rule", "deleted"]
    assert sorted(reasons)[2].startswith("unsubscribed on ")

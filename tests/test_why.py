"""Why was this person not mailed? One sentence for anybody, whatever became of them."""

from __future__ import annotations

import pytest

from app.campaigns.batches import lease_next, new_token
from app.campaigns.expansion import Expander
from app.campaigns.halting import cancel_campaign, pause_campaign
from app.campaigns.why import Why, why
from app.clock import in_utc
from app.config import Settings
from app.db import Db
from app.errors import UsageError
from app.lists.memberships import forget, remove, unsubscribe
from app.lists.suppressing import Wanted, add_rules, reach_all, remove_rule
from app.mail.limits.domains import set_rule
from app.mail.senders import pause_sender
from app.mail.servers import add_server
from app.mail.suppression import parse_rule
from app.models.tables import Campaign, Subscriber
from tests.sending import NOW, add_list, add_people, draft, expand, join, start

MINUTE = 60_000


@pytest.fixture
def campaign(db: Db, settings: Settings) -> int:
    """A draft for two lists of six people in all; batches of two."""
    add_server(name="relay", host="127.0.0.1", port=25, tls="none", now=NOW)
    people = add_people(db, 6)
    add_list(db, "news", people[:4])
    add_list(db, "offers", people[2:])
    add_people(db, 1, "stranger")
    return draft(db, ["news", "offers"])


@pytest.fixture
def sending(db: Db, settings: Settings, campaign: int) -> int:
    start(db, campaign)
    expand(db, Settings(**{**settings.__dict__, "send_batch_size": 2}), campaign)
    return campaign


def ask(db: Db, campaign: int, name: str, later: int = 0) -> Why:
    found = why(db, Campaign.get_by_id(campaign), f"{name}@example.test", db.now_ms() + later)
    assert found.sentence.startswith(f"{found.email} ")
    return found


def said(db: Db, campaign: int, name: str, later: int = 0) -> str:
    """The sentence without the address."""
    found = ask(db, campaign, name, later)
    return found.sentence.removeprefix(f"{found.email} ")


def decide(db: Db, name: str, state: str, reason: str | None, **more: object) -> int:
    """Write down what became of somebody; when it was tried."""
    tried_at = db.now_ms()
    values = {"state": state, "reason": reason, "attempts": 1, "server_id": 1, "tried_at": tried_at, **more}
    person = Subscriber.get(Subscriber.email == f"{name}@example.test").id
    columns = ", ".join(f"{column} = ?" for column in values)
    db.run(f"UPDATE recipients SET {columns} WHERE subscriber_id = ?", *values.values(), person)
    return tried_at


def test_who_was_mailed(db: Db, sending: int) -> None:
    at = in_utc(decide(db, "p1", "sent", "250 2.0.0 kept"))
    assert said(db, sending, "p1") == f"was mailed at {at} over server relay: 250 2.0.0 kept"
    assert ask(db, sending, "P1").state == "sent"
    at = in_utc(decide(db, "p2", "sent", "taken as delivered by a person's decision", server_id=None))
    assert said(db, sending, "p2") == f"was mailed at {at}: taken as delivered by a person's decision"


def test_who_failed_or_is_unknown(db: Db, sending: int) -> None:
    at = in_utc(decide(db, "p1", "failed", "550 5.1.1 no such user"))
    assert said(db, sending, "p1") == f"was not mailed: it failed at {at} over server relay: 550 5.1.1 no such user"
    decide(db, "p2", "failed", "html, line 3: unknown", server_id=None, tried_at=None)
    assert said(db, sending, "p2") == "was not mailed: it failed: html, line 3: unknown"
    at = in_utc(decide(db, "p3", "unknown", "line lost"))
    assert said(db, sending, "p3") == f"may have been mailed at {at} over server relay, nobody knows: line lost"


def test_who_was_skipped(db: Db, sending: int) -> None:
    decide(db, "p1", "skipped", "unsubscribed on 2026-11-22 14:03 UTC", server_id=None)
    assert said(db, sending, "p1") == "was skipped: unsubscribed on 2026-11-22 14:03 UTC"
    add_rules(db, [Wanted(parse_rule("@example.test"), "they asked us to")])
    reach_all(db)
    since = in_utc(int(db.value("SELECT created_at FROM suppressions")))
    decide(db, "p2", "skipped", "blocked: domain rule @example.test", server_id=None)
    assert said(db, sending, "p2") == (
        f"was skipped: blocked by domain rule @example.test since {since} (they asked us to)"
    )
    remove_rule(db, parse_rule("@example.test"))
    assert said(db, sending, "p2") == "was skipped: blocked by domain rule @example.test, which is gone"


def test_whose_turn_has_not_come(db: Db, sending: int) -> None:
    assert said(db, sending, "p1") == "waits: its turn has not come, 0 of this campaign are before it"
    assert said(db, sending, "p6") == "waits: its turn has not come, 4 of this campaign are before it"
    assert lease_next(db, token=new_token(), journal="j", only=None, now=db.now_ms(), monotonic=0.0, lease_seconds=30)
    assert said(db, sending, "p1") == "is being sent just now: a worker has it in hand"
    assert ask(db, sending, "p1").state == "sending"


def test_who_waits_for_a_server(db: Db, sending: int) -> None:
    until = db.now_ms() + 10 * 60 * MINUTE
    db.run("UPDATE campaigns SET held_until = ?, held_by = 'day limit of server relay'", until)
    assert said(db, sending, "p1").startswith("waits: day limit of server relay, free at 20")
    db.run("UPDATE campaigns SET held_until = 0, held_by = NULL")
    pause_sender(db, "news@shop.test", "complaints", db.now_ms())
    assert said(db, sending, "p1") == "waits: sender news@shop.test is paused: complaints"


def test_who_waits_for_the_limit_of_a_domain(db: Db, sending: int) -> None:
    at = db.now_ms() + 10 * MINUTE
    db.run("UPDATE batches SET ready_at = ?", at)
    assert said(db, sending, "p1") == f"waits: its turn comes at {in_utc(at)}"
    set_rule(db, "example.test", per_minute=2, now=NOW)
    db.run("UPDATE batches SET ready_at = ?", at)
    assert said(db, sending, "p1") == f"waits: mails to example.test are limited, and its turn comes at {in_utc(at)}"


def test_who_is_tried_again(db: Db, sending: int) -> None:
    at = decide(db, "p1", "pending", "450 4.2.0 greylisted")
    db.run("UPDATE batches SET ready_at = ? WHERE number = 1", at + MINUTE)
    last = f"after 1 try, the last at {in_utc(at)} over server relay: 450 4.2.0 greylisted"
    assert said(db, sending, "p1") == f"is tried again at {in_utc(at + MINUTE)}, {last}"
    assert said(db, sending, "p1", later=2 * MINUTE) == (
        f"is due to be tried again and waits: its turn has not come, 0 of this campaign are before it, {last}"
    )


def test_who_waits_while_the_campaign_is_halted(db: Db, sending: int) -> None:
    pause_campaign(db, sending)
    assert said(db, sending, "p1") == "waits: the campaign is paused"
    cancel_campaign(db, sending, db.now_ms())
    assert said(db, sending, "p1") == "is not mailed: the campaign is cancelled"


def test_who_will_be_skipped(db: Db, sending: int) -> None:
    unsubscribe(db, "news", "p1@example.test")
    assert said(db, sending, "p1").startswith(
        "is not mailed any more, and skipped when its turn comes: unsubscribed on 20"
    )
    add_rules(db, [Wanted(parse_rule("p2@example.test"), "complained")])
    assert said(db, sending, "p2").startswith(
        "is not mailed any more, and skipped when its turn comes: blocked by address rule since 20"
    )
    assert said(db, sending, "p2").endswith(" (complained)")


def test_whom_nobody_knows(db: Db, sending: int) -> None:
    assert said(db, sending, "nobody") == "is nobody's address here"
    assert ask(db, sending, "nobody").state is None
    add_rules(db, [Wanted(parse_rule("@example.test"), "test")])
    assert said(db, sending, "nobody").startswith(
        "is nobody's address here, and blocked by domain rule @example.test since 20"
    )
    with pytest.raises(UsageError, match="not an email address"):
        why(db, Campaign.get_by_id(sending), "nobody", NOW)


def test_who_is_on_no_list_of_the_campaign(db: Db, sending: int) -> None:
    assert said(db, sending, "stranger1") == "is on none of the lists of this campaign (news, offers)"
    add_rules(db, [Wanted(parse_rule("stranger1@example.test"), "test")])
    assert said(db, sending, "stranger1").startswith(
        "is on none of the lists of this campaign (news, offers); besides, blocked by address rule since 20"
    )


def test_who_had_left_before(db: Db, settings: Settings, campaign: int) -> None:
    unsubscribe(db, "news", "p1@example.test")
    remove(db, "offers", "p6@example.test")
    unsubscribe(db, "news", "p3@example.test")
    remove(db, "offers", "p3@example.test")
    forget(db, "p2@example.test")
    start(db, campaign)
    expand(db, settings, campaign)
    on = in_utc(int(db.value("SELECT updated_at FROM memberships WHERE subscriber_id = 1")))
    assert said(db, campaign, "p1") == f"unsubscribed from news on {on}"
    assert said(db, campaign, "p6").startswith("was taken off offers on 20")
    assert " and was taken off offers on 20" in said(db, campaign, "p3")
    assert said(db, campaign, "p2").startswith("was deleted on 20")


def test_who_may_still_become_one(db: Db, settings: Settings, campaign: int) -> None:
    assert said(db, campaign, "p1") == ("is on news; the campaign is a draft and chooses its recipients when it starts")
    start(db, campaign)
    run = Expander(db, campaign, batch_size=2, send_batch_size=2)
    assert run.claim(NOW)
    run.step(NOW)
    assert said(db, campaign, "p4") == (
        "is on news, list 1 of this campaign, and not reached yet: list 1 is being expanded"
    )
    assert said(db, campaign, "p6") == (
        "is on offers, list 2 of this campaign, and not reached yet: list 1 is being expanded"
    )
    add_rules(db, [Wanted(parse_rule("p6@example.test"), "test")])
    assert "is being expanded; it would be skipped: blocked by address rule since 20" in said(db, campaign, "p6")
    cancel_campaign(db, campaign, db.now_ms())
    expand(db, settings, campaign)
    db.run("UPDATE expansions SET state = 'stopped'")
    assert said(db, campaign, "p4") == "is on news, which was not read to its end: the campaign is cancelled"


def test_who_was_never_chosen(db: Db, campaign: int) -> None:
    cancel_campaign(db, campaign, db.now_ms())
    assert said(db, campaign, "p1") == "is on news; the campaign is cancelled and never chose its recipients"


def test_who_joined_too_late(db: Db, sending: int) -> None:
    join(db, 2, [7])
    assert said(db, sending, "stranger1") == (f"joined offers on {in_utc(1)}, after the campaign had read this list")


def test_who_is_not_mailed_here_but_was_expanded_as_skipped(db: Db, settings: Settings, campaign: int) -> None:
    reason = "bounced: 3 permanent refusals, last 550"
    db.run("UPDATE subscribers SET status = 'bounced', status_reason = ? WHERE id = 1", reason)
    start(db, campaign)
    expand(db, settings, campaign)
    assert said(db, campaign, "p1") == f"was skipped: {reason}"

"""Pause, resume and cancel: what each does to a campaign in every status, and what it leaves to the others."""

from __future__ import annotations

import pytest

from app.campaigns.batches import lease_next, new_token
from app.campaigns.expansion import Expander, Superseded
from app.campaigns.finish import give_up
from app.campaigns.halting import cancel_campaign, in_hand, pause_campaign, resume_campaign, wait_until_quiet
from app.campaigns.lifecycle import find_campaign, schedule_campaign, start_due
from app.campaigns.outcomes import write_outcomes
from app.campaigns.sweep import sweep
from app.config import Settings
from app.db import Db
from app.errors import NotFound, Refused
from app.mail.servers import add_server
from app.models.tables import Batch, Campaign, Expansion
from tests.sending import NOW, add_list, add_people, draft, expand, start


@pytest.fixture
def campaign(db: Db) -> int:
    """A draft for 250 people."""
    add_server(name="sink", host="127.0.0.1", port=25, tls="none", now=NOW)
    add_list(db, "all", add_people(db, 250))
    return draft(db, ["all"])


def status(campaign_id: int) -> str:
    return str(find_campaign(campaign_id).status)


def lease(db: Db) -> bool:
    found = lease_next(
        db, token=new_token(), journal="j", only=None, now=db.now_ms(), monotonic=0.0, lease_seconds=30
    )  # fmt: skip
    return found is not None


def test_a_paused_scheduled_campaign_does_not_start_and_a_resumed_one_starts_late(db: Db, campaign: int) -> None:
    schedule_campaign(db, campaign, NOW + 5000, NOW)
    assert pause_campaign(db, campaign).changed
    assert start_due(db, NOW + 9000) == []
    assert status(campaign) == "paused"
    moved = resume_campaign(db, campaign, NOW + 9000)
    assert (moved.status, moved.changed) == ("scheduled", True)
    assert start_due(db, NOW + 9000) == [campaign]


def test_a_paused_sending_campaign_gives_out_no_lease_and_a_resumed_one_does(
    db: Db, campaign: int, settings: Settings
) -> None:
    start(db, campaign)
    expand(db, settings, campaign)
    Campaign.update(boost=3).execute()
    pause_campaign(db, campaign)
    assert not lease(db)
    assert find_campaign(campaign).boost == 0
    assert resume_campaign(db, campaign, NOW).status == "sending"
    assert lease(db)


def test_each_of_them_may_be_said_twice(db: Db, campaign: int) -> None:
    start(db, campaign)
    assert [pause_campaign(db, campaign).changed for _ in range(2)] == [True, False]
    assert [resume_campaign(db, campaign, NOW).changed for _ in range(2)] == [True, False]
    assert [cancel_campaign(db, campaign, NOW + i).changed for i in range(2)] == [True, False]
    assert find_campaign(campaign).finished_at == NOW, "the second time changes nothing"


@pytest.mark.parametrize(
    ("was", "verb", "says"),
    [
        ("draft", "pause", "is a draft.*campaigns schedule"),
        ("draft", "resume", "is a draft.*campaigns schedule"),
        ("sent", "pause", "is sent"),
        ("sent", "resume", "is sent"),
        ("sent", "cancel", "is sent"),
        ("cancelled", "pause", "stays so"),
        ("cancelled", "resume", "stays so"),
        ("failed", "cancel", "is failed .disk full"),
    ],
)
def test_what_is_not_possible_says_why_and_changes_nothing(
    db: Db, campaign: int, was: str, verb: str, says: str
) -> None:
    Campaign.update(status=was, reason="disk full" if was == "failed" else None, boost=2).execute()
    with pytest.raises(Refused, match=says):
        {
            "pause": lambda: pause_campaign(db, campaign),
            "resume": lambda: resume_campaign(db, campaign, NOW),
            "cancel": lambda: cancel_campaign(db, campaign, NOW),
        }[verb]()
    found = find_campaign(campaign)
    assert (found.status, found.boost, found.finished_at) == (was, 2, None)


def test_an_unknown_campaign_is_not_found(db: Db) -> None:
    for halt in (pause_campaign, lambda d, i: resume_campaign(d, i, NOW), lambda d, i: cancel_campaign(d, i, NOW)):
        with pytest.raises(NotFound, match="no campaign 77"):
            halt(db, 77)


def test_the_waiting_ends_when_the_last_lease_has_ended(db: Db, campaign: int, settings: Settings) -> None:
    start(db, campaign)
    expand(db, settings, campaign)
    assert lease(db)
    assert lease(db)
    pause_campaign(db, campaign)
    left = wait_until_quiet(db, campaign, 0.05)
    assert (left.batches, left.recipients) == (2, 200)
    for number, token in db.rows("SELECT number, token FROM batches WHERE state = 'leased'"):
        write_outcomes(db, campaign, number, token, [], now=NOW, ready_at=0)
    assert wait_until_quiet(db, campaign, 0).batches == in_hand(db, campaign).batches == 0


def test_a_campaign_whose_last_batch_ended_during_the_pause_is_sent_when_it_is_resumed(db: Db, campaign: int) -> None:
    start(db, campaign)
    Expansion.update(state="done").execute()
    pause_campaign(db, campaign)
    moved = resume_campaign(db, campaign, NOW)
    assert (moved.status, moved.changed, status(campaign)) == ("sent", True, "sent")


def test_a_paused_campaign_is_expanded_to_its_end(db: Db, campaign: int, settings: Settings) -> None:
    start(db, campaign)
    pause_campaign(db, campaign)
    expand(db, settings, campaign)
    assert Expansion.get().state == "done"
    assert Batch.select().count() == 3
    assert status(campaign) == "paused"


def test_the_stalled_expansion_of_a_paused_campaign_is_started_again(db: Db, campaign: int, settings: Settings) -> None:
    start(db, campaign)
    pause_campaign(db, campaign)
    asked: list[int] = []
    sweep(db, settings.journals, NOW + 3_600_000, 30, asked.append)
    assert asked == [campaign]


def test_a_paused_campaign_whose_expansion_is_given_up_has_failed(db: Db, campaign: int) -> None:
    start(db, campaign)
    pause_campaign(db, campaign)
    give_up(db, campaign, "expansion failed 5 times", NOW)
    assert status(campaign) == "failed"


@pytest.mark.parametrize("was", ["draft", "scheduled", "sending", "paused"])
def test_whatever_is_not_over_can_be_cancelled(db: Db, campaign: int, was: str) -> None:
    Campaign.update(status=was, boost=4, scheduled_at=NOW).execute()
    assert cancel_campaign(db, campaign, NOW).changed
    found = find_campaign(campaign)
    assert (found.status, found.boost, found.finished_at) == ("cancelled", 0, NOW)
    assert start_due(db, NOW + 1) == []
    with pytest.raises(Refused, match="cancelled"):
        resume_campaign(db, campaign, NOW)


def test_a_cancelled_campaign_is_not_made_failed(db: Db, campaign: int) -> None:
    start(db, campaign)
    expander = Expander(db, campaign, batch_size=100, send_batch_size=10)
    assert expander.claim(db.now_ms())
    cancel_campaign(db, campaign, NOW)
    give_up(db, campaign, "its template does not compile", NOW)
    assert (status(campaign), find_campaign(campaign).reason) == ("cancelled", None)


def test_a_claim_of_a_cancelled_campaign_is_refused(db: Db, campaign: int, settings: Settings) -> None:
    start(db, campaign)
    cancel_campaign(db, campaign, NOW)
    assert not Expander(db, campaign, batch_size=100, send_batch_size=10).claim(db.now_ms())
    held = Expander(db, campaign, batch_size=100, send_batch_size=10)
    with pytest.raises(Superseded):
        held.step(db.now_ms())

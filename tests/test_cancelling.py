"""The rest of a cancelled campaign is skipped in steps that may be broken off anywhere."""

from __future__ import annotations

import threading

import pytest

import app.campaigns.cancelling as cancelling
from app.campaigns.batches import Lease, lease_next, new_token
from app.campaigns.cancelling import left_to_skip, skip_rest, with_rest
from app.campaigns.expansion import Expander, Superseded
from app.campaigns.halting import cancel_campaign
from app.campaigns.outcomes import Outcome, write_outcomes
from app.campaigns.progress import progress_of
from app.campaigns.sweep import sweep
from app.config import Settings
from app.db import Db
from app.mail.servers import add_server
from app.models.states import RecipientState
from app.models.tables import Batch, Campaign, Expansion
from tests.sending import NOW, add_list, add_people, draft, expand, start

PEOPLE = 1050


@pytest.fixture
def campaign(db: Db, settings: Settings) -> int:
    """A campaign being sent, in 11 batches."""
    add_server(name="sink", host="127.0.0.1", port=25, tls="none", now=NOW)
    add_list(db, "all", add_people(db, PEOPLE))
    campaign_id = draft(db, ["all"])
    start(db, campaign_id)
    expand(db, settings, campaign_id)
    return campaign_id


def lease(db: Db) -> Lease:
    found = lease_next(db, token=new_token(), journal="j", only=None, now=db.now_ms(), monotonic=0.0, lease_seconds=30)
    assert found
    return found


def rows(db: Db, campaign_id: int) -> dict[str, int]:
    """How many recipients are in each state; fails unless the batches' counters say the same."""
    found = {
        str(s): int(n)
        for s, n in db.rows(
            "SELECT state, COUNT(*) FROM recipients WHERE campaign_id = ? GROUP BY state", campaign_id
        )
    }  # fmt: skip
    p = progress_of(db, Campaign.get_by_id(campaign_id), NOW)
    counted = {"pending": p.pending + p.sending, "sent": p.sent, "skipped": p.skipped, "unknown": p.unknown}
    assert {name: n for name, n in counted.items() if n} == found
    return found


def test_everybody_who_is_pending_is_skipped_with_the_reason(db: Db, campaign: int) -> None:
    cancel_campaign(db, campaign, NOW)
    assert left_to_skip(db, campaign) == PEOPLE
    assert skip_rest(db, campaign, NOW, 60) == PEOPLE
    assert rows(db, campaign) == {"skipped": PEOPLE}
    assert db.rows("SELECT DISTINCT reason FROM recipients") == [("cancelled at 2026-09-21 14:13:20 UTC",)]
    assert {batch.state for batch in Batch.select()} == {"done"}
    assert (left_to_skip(db, campaign), with_rest(db, 9), skip_rest(db, campaign, NOW, 60)) == (0, [], 0)


def test_what_was_decided_before_stays(db: Db, campaign: int) -> None:
    mine = lease(db)
    ids = [int(i) for (i,) in db.rows("SELECT subscriber_id FROM recipients WHERE batch = ?", mine.number)]
    cancel_campaign(db, campaign, NOW)
    skip_rest(db, campaign, NOW, 60)
    assert rows(db, campaign) == {"pending": 100, "skipped": PEOPLE - 100}, "a worker has them in hand"
    outcomes = [Outcome(i, RecipientState.SENT, 1, "250 ok", NOW) for i in ids[:30]]
    outcomes.append(Outcome(ids[30], RecipientState.UNKNOWN, 1, "no answer", NOW))
    assert write_outcomes(db, campaign, mine.number, mine.token, outcomes, now=NOW, ready_at=NOW + 99_000)
    assert with_rest(db, 9) == [campaign], "handed back, though not due"
    skip_rest(db, campaign, NOW, 60)
    assert rows(db, campaign) == {"sent": 30, "unknown": 1, "skipped": PEOPLE - 31}


def test_the_sweep_goes_on_where_the_command_was_broken_off(
    db: Db, campaign: int, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancelling, "STEP_RECIPIENTS", 250)
    cancel_campaign(db, campaign, NOW)
    assert skip_rest(db, campaign, NOW, 0) == 300, "one step: whole batches"
    assert rows(db, campaign) == {"skipped": 300, "pending": PEOPLE - 300}
    assert sweep(db, settings.journals, NOW, 30, lambda _: None).skipped == PEOPLE - 300
    assert rows(db, campaign) == {"skipped": PEOPLE}
    assert sweep(db, settings.journals, NOW, 30, lambda _: None).skipped == 0


def test_a_step_that_breaks_off_leaves_rows_and_counters_as_they_were(
    db: Db, campaign: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip = cancelling._skip_batch

    def third_breaks(db: Db, campaign_id: int, number: int, *rest: object) -> int:
        if number == 3:
            raise KeyboardInterrupt
        return skip(db, campaign_id, number, *rest)  # type: ignore[arg-type]

    cancel_campaign(db, campaign, NOW)
    with monkeypatch.context() as patch:
        patch.setattr(cancelling, "_skip_batch", third_breaks)
        with pytest.raises(KeyboardInterrupt):
            skip_rest(db, campaign, NOW, 60)
    assert rows(db, campaign) == {"pending": PEOPLE}
    assert skip_rest(db, campaign, NOW, 60) == PEOPLE


def test_several_skip_at_once_and_each_recipient_counts_once(
    db: Db, campaign: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancelling, "STEP_RECIPIENTS", 100)
    cancel_campaign(db, campaign, NOW)
    skipped: list[int] = []

    def skip() -> None:
        skipped.append(skip_rest(db, campaign, NOW, 60))
        db.close()

    threads = [threading.Thread(target=skip) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(skipped) == PEOPLE
    assert rows(db, campaign) == {"skipped": PEOPLE}


def test_counters_that_were_wrong_are_right_afterwards(db: Db, campaign: int) -> None:
    db.run("UPDATE recipients SET state = 'sent' WHERE subscriber_id <= 5")
    cancel_campaign(db, campaign, NOW)
    assert skip_rest(db, campaign, NOW, 60) == PEOPLE - 5
    assert rows(db, campaign) == {"sent": 5, "skipped": PEOPLE - 5}


def test_a_campaign_that_is_not_cancelled_is_left_alone(db: Db, campaign: int) -> None:
    for status in ("sending", "paused", "failed", "sent"):
        Campaign.update(status=status).execute()
        assert (skip_rest(db, campaign, NOW, 60), with_rest(db, 9)) == (0, [])
    assert rows(db, campaign) == {"pending": PEOPLE}


def test_the_expansion_stops_at_once_and_adds_nobody_afterwards(db: Db, settings: Settings) -> None:
    add_server(name="sink", host="127.0.0.1", port=25, tls="none", now=NOW)
    add_list(db, "all", add_people(db, PEOPLE))
    campaign_id = draft(db, ["all"])
    start(db, campaign_id)
    expander = Expander(db, campaign_id, batch_size=200, send_batch_size=50)
    assert expander.claim(NOW)
    expander.step(NOW)
    cancel_campaign(db, campaign_id, NOW)
    expander.step(NOW)
    assert with_rest(db, 9) == [campaign_id]
    assert sweep(db, settings.journals, NOW, 30, lambda _: None).skipped == 400
    with pytest.raises(Superseded):
        expander.step(NOW)
    assert Expansion.get().state == "stopped"
    assert rows(db, campaign_id) == {"skipped": 400}
    assert with_rest(db, 9) == []

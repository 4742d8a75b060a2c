"""Read the recipients of a campaign, a batch at a time, so that a million of them need no memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from app.campaigns.letter import Letter
from app.db import Db
from app.mail.address import parse_address
from app.models.states import BatchState, RecipientState
from app.models.tables import Campaign


@dataclass(frozen=True)
class RecipientView:
    """One recipient as people see it; `sent_at` in ms since 1970 UTC."""

    email: str
    state: str
    reason: str | None
    attempts: int
    server: str | None
    message_id: str
    sent_at: int | None


def recipients_of(
    db: Db, campaign: Campaign, *, state: str | None = None, email: str | None = None
) -> Iterator[RecipientView]:
    """The recipients, those in `state` and with address `email` only, in the order of the batches.

    The counters of the batches are the index of the states: a batch without one is passed over.
    """
    if email is not None:
        yield from _views(db, campaign, "", "s.email_key = ?", [parse_address(email).key], state)
        return
    for (number,) in db.rows(
        f"SELECT number FROM batches WHERE campaign_id = ? AND {_holds(state)} ORDER BY number", campaign.id
    ):
        yield from _views(db, campaign, db.by_batch, "r.batch = ?", [number], state)


def _holds(state: str | None) -> str:
    if state is None:
        return "1 = 1"
    if state == "sending":
        return f"state = '{BatchState.LEASED}' AND pending > 0"
    return f"{RecipientState(state)} > 0"


def _views(
    db: Db, campaign: Campaign, index: str, condition: str, params: list[object], state: str | None
) -> Iterator[RecipientView]:
    letter = Letter(campaign)
    rows = db.rows(
        "SELECT r.subscriber_id, s.email, r.state, r.reason, r.attempts, v.name, r.tried_at, b.state "
        f"FROM recipients r{index} JOIN subscribers s ON s.id = r.subscriber_id "
        "JOIN batches b ON b.campaign_id = r.campaign_id AND b.number = r.batch "
        f"LEFT JOIN servers v ON v.id = r.server_id WHERE r.campaign_id = ? AND {condition} ORDER BY r.subscriber_id",
        campaign.id, *params,
    )  # fmt: skip
    for subscriber_id, address, recorded, reason, attempts, server, tried_at, batch_state in rows:
        in_hand = recorded == RecipientState.PENDING and batch_state == BatchState.LEASED
        shown = "sending" if in_hand else recorded
        if state is None or shown == state:
            sent_at = tried_at if recorded == RecipientState.SENT else None
            yield RecipientView(address, shown, reason, attempts, server, letter.message_id(subscriber_id), sent_at)

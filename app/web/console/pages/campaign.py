"""One campaign: how far, how fast, by which servers, what went wrong; and what a person does to it."""

from __future__ import annotations

from typing import Any

from flask import Response, request

from app.campaigns.boosts import MOST
from app.campaigns.cancelling import skip_rest
from app.campaigns.halting import cancel_campaign, pause_campaign, resume_campaign, wait_until_quiet
from app.campaigns.lifecycle import find_campaign
from app.campaigns.look import look_at
from app.campaigns.told import replies_of, shares_of
from app.campaigns.unknown import MAY_RESEND, resend_unknown, settle_unknown
from app.errors import UsageError
from app.models.states import CampaignStatus
from app.models.tables import CampaignList, List
from app.web.audit import tell
from app.web.campaigns import LARGEST_ID
from app.web.console.page import Page
from app.web.halting import QUIET_SECONDS, SKIP_SECONDS
from app.web.resources import resources
from app.web.sending import boost_to, schedule_at
from app.web.series import step_of_campaign

page = Page("campaign", under="campaigns")

PATH = f"/campaigns/<int(max={LARGEST_ID}):campaign_id>"
#: What reads many rows is read this often at most, in seconds.
SELDOM_SECONDS = 5.0
#: The first to look waits so long for the domains to be counted, in seconds: a small campaign is complete by then.
FIRST_SECONDS = 0.2
#: The others are folded.
SHOWN_DOMAINS = 10


@page.live(PATH)
def look(campaign_id: int) -> dict[str, Any]:
    here = resources()
    seen = look_at(here.db, here.redis, campaign_id)
    replies, newest_only = here.shared("replies", SELDOM_SECONDS).get(
        campaign_id, lambda: replies_of(here.db, campaign_id)
    )
    campaign = find_campaign(campaign_id)
    return {
        "campaign": campaign,
        "step_seconds": step_of_campaign(here.db, campaign),
        "seen": seen,
        "p": seen.progress,
        "may_resend": MAY_RESEND,
        "lists": [one.name for one in List.select().join(CampaignList, on=CampaignList.list_id == List.id)
                  .where(CampaignList.campaign_id == campaign_id).order_by(CampaignList.position)],
        "replies": replies,
        "newest_only": newest_only,
        "shares": here.shared("shares", SELDOM_SECONDS).get(campaign_id, lambda: shares_of(here.db, campaign_id)),
        "domains": here.domains.look(campaign_id, FIRST_SECONDS),
        "shown_domains": SHOWN_DOMAINS,
        "most": MOST,
    }  # fmt: skip


@page.post(f"{PATH}/schedule", scope="send")
def schedule(campaign_id: int) -> Response:
    """`at` is an instant with its zone, which the browser's script adds to what a person chose."""
    at = request.form.get("at", "").strip()
    schedule_at(campaign_id, at or None)
    tell(f"at {at or 'once'}")
    return _back(campaign_id, "campaign.was_scheduled")


@page.post(f"{PATH}/pause", scope="send")
def pause(campaign_id: int) -> Response:
    db = resources().db
    pause_campaign(db, campaign_id)
    left = wait_until_quiet(db, campaign_id, QUIET_SECONDS)
    if left.batches:
        return _back(campaign_id, "campaign.pausing", n=left.recipients)
    return _back(campaign_id, "campaign.was_paused")


@page.post(f"{PATH}/resume", scope="send")
def resume(campaign_id: int) -> Response:
    db = resources().db
    resume_campaign(db, campaign_id, db.now_ms())
    return _back(campaign_id, "campaign.was_resumed")


@page.post(f"{PATH}/cancel", scope="send")
def cancel(campaign_id: int) -> Response:
    db = resources().db
    cancel_campaign(db, campaign_id, db.now_ms())
    skip_rest(db, campaign_id, db.now_ms(), 0)
    wait_until_quiet(db, campaign_id, QUIET_SECONDS)
    skip_rest(db, campaign_id, db.now_ms(), SKIP_SECONDS)
    return _back(campaign_id, "campaign.was_cancelled")


@page.post(f"{PATH}/boost", scope="send")
def boost(campaign_id: int) -> Response:
    said = request.form.get("workers", "")
    if not (said.isascii() and said.isdigit() and int(said[:9]) <= MOST):
        raise UsageError(f"{said!r} is no number of workers: 0 to {MOST}")
    boost_to(campaign_id, int(said))
    tell(f"{said} workers")
    return _back(campaign_id, "campaign.was_boosted", n=int(said))


@page.post(f"{PATH}/unknown", scope="send")
def unknown(campaign_id: int) -> Response:
    campaign, db, action = find_campaign(campaign_id), resources().db, request.form.get("action")
    if action not in ("resend", "settle"):
        raise UsageError(f"{action!r} is no decision: resend or settle")
    done = resend_unknown(db, campaign) if action == "resend" else settle_unknown(db, campaign)
    tell(f"{action} {done.decided}")
    if done.in_hand and not done.decided:
        return _back(campaign_id, "campaign.in_hand", n=done.in_hand)
    word = "put_back" if action == "resend" and campaign.status == CampaignStatus.PAUSED else action
    return _back(campaign_id, f"campaign.was_{word}", n=done.decided)


def _back(campaign_id: int, word: str, **values: object) -> Response:
    return page.done(f"/campaigns/{campaign_id}", word, **values)

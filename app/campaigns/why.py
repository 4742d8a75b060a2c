"""Why was this person not mailed? One sentence for anybody, recipient of the campaign or not.

The same for the command line, the API and the console.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.campaigns.blocking import blocked_by
from app.campaigns.recipients import RecipientView, recipients_of
from app.campaigns.retry import backoff, due_at
from app.campaigns.standing import CHANGED, REASON, reasons_to_skip
from app.clock import in_utc
from app.config import settings
from app.db import Db
from app.mail.address import parse_address
from app.mail.limits.domains import load_rules
from app.mail.suppression import Rule, find_rule, parse_rule, rules_for
from app.models.states import (
    CAMPAIGN_ENDED,
    BatchState,
    CampaignStatus,
    ExpansionState,
    MembershipStatus,
    RecipientState,
    RuleKind,
    SubscriberStatus,
)
from app.models.tables import Campaign, Expansion


@dataclass(frozen=True)
class Why:
    """`state` is that of the recipient, None for somebody who is none. `sentence` begins with the address."""

    email: str
    state: str | None
    sentence: str
    recipient: RecipientView | None


@dataclass(frozen=True)
class _Membership:
    """Of one list of the campaign; `status` None: never a member. `since` in ms."""

    position: int
    list_name: str
    status: str | None
    since: int


def why(db: Db, campaign: Campaign, email: str, now: int) -> Why:
    """What became of a person in a campaign, and why, as of `now` (ms). Raises BadAddress."""
    address = parse_address(email.strip())
    view = next(recipients_of(db, campaign, email=address.email), None)
    if view is not None:
        return Why(view.email, view.state, f"{view.email} {_recipient(db, campaign, address.key, view, now)}", view)
    return Why(address.email, None, f"{address.email} {_stranger(db, campaign, address.key)}", None)


# -- recipients ----------------------------------------------------------------------------------


def _recipient(db: Db, campaign: Campaign, key: str, view: RecipientView, now: int) -> str:
    if view.state in (RecipientState.PENDING, "sending"):
        return _waiting(db, campaign, key, view, now)
    tried_at = db.value(
        "SELECT r.tried_at FROM recipients r JOIN subscribers s ON s.id = r.subscriber_id "
        "WHERE r.campaign_id = ? AND s.email_key = ?",
        campaign.id, key,
    )  # fmt: skip
    over = (f" at {in_utc(int(tried_at))}" if tried_at else "") + (f" over server {view.server}" if view.server else "")
    reason = view.reason or "no reason was kept"
    match view.state:
        case RecipientState.SENT:
            return f"was mailed{over}: {reason}"
        case RecipientState.FAILED:
            return f"was not mailed: it failed{over}: {reason}"
        case RecipientState.UNKNOWN:
            return f"may have been mailed{over}, nobody knows: {reason}"
        case _:
            return f"was skipped: {_with_rule(db, key, reason)}"


def _waiting(db: Db, campaign: Campaign, key: str, view: RecipientView, now: int) -> str:
    row = db.row(
        f"SELECT {CHANGED}, s.id, {REASON}, r.tried_at, b.ready_at, b.number FROM subscribers s "
        "JOIN recipients r ON r.campaign_id = ? AND r.subscriber_id = s.id "
        "JOIN batches b ON b.campaign_id = r.campaign_id AND b.number = r.batch WHERE s.email_key = ?",
        campaign.id, campaign.id, key,
    )  # fmt: skip
    assert row is not None
    changed, id_, reason, tried_at, ready_at, batch = row
    skip = reasons_to_skip(db, campaign.id, {id_: reason}, int(changed))
    if view.state == "sending":
        return "is being sent just now: a worker has it in hand"
    if campaign.status in (CampaignStatus.CANCELLED, CampaignStatus.FAILED):
        return f"is not mailed: the campaign is {campaign.status}" + (
            f" ({campaign.reason})" if campaign.reason else ""
        )
    if skip:
        return f"is not mailed any more, and skipped when its turn comes: {_with_rule(db, key, *skip.values())}"
    waits = _waits_for(db, campaign, key, int(ready_at), int(batch), now)
    due = due_at(view.attempts, tried_at, backoff(settings().retry_minutes))
    if view.attempts and tried_at:
        tries = "1 try" if view.attempts == 1 else f"{view.attempts} tries"
        when = f"is tried again at {in_utc(due)}" if due > now else f"is due to be tried again and waits: {waits}"
        over = f" over server {view.server}" if view.server else ""
        return f"{when}, after {tries}, the last at {in_utc(int(tried_at))}{over}: {view.reason}"
    return f"waits: {waits}"


def _waits_for(db: Db, campaign: Campaign, key: str, ready_at: int, batch: int, now: int) -> str:
    """What keeps a recipient from being mailed that may be mailed."""
    if campaign.status == CampaignStatus.PAUSED:
        return "the campaign is paused" + (f" ({campaign.reason})" if campaign.reason else "")
    if ready_at > now:
        rule = load_rules(db).for_address(key)
        limited = f"mails to {rule.domain} are limited, and " if rule else ""
        return f"{limited}its turn comes at {in_utc(ready_at)}"
    expansion = Expansion.get_or_none(Expansion.campaign_id == campaign.id)
    if blocked := blocked_by(db, campaign, expansion, now):
        return blocked
    before = db.value(
        "SELECT COALESCE(SUM(pending), 0) FROM batches WHERE campaign_id = ? AND number < ? AND state = ?",
        campaign.id, batch, BatchState.READY,
    )  # fmt: skip
    return f"its turn has not come, {int(before):,} of this campaign are before it"


# -- everybody else ------------------------------------------------------------------------------


def _stranger(db: Db, campaign: Campaign, key: str) -> str:
    row = db.row("SELECT id, status, status_reason, updated_at FROM subscribers WHERE email_key = ?", key)
    if row is None:
        rule = rules_for(db, [key]).get(key)
        return "is nobody's address here" + (f", and blocked by {_told(db, rule)}" if rule else "")
    id_, status, reason, updated_at = row
    if status == SubscriberStatus.DELETED:
        return f"was deleted on {in_utc(int(updated_at))} (lists forget)"
    found = _memberships(db, campaign.id, int(id_))
    members = [m for m in found if m.status == MembershipStatus.ACTIVE]
    if not members:
        words = _not_on_the_lists(found)
        return (
            words if status == SubscriberStatus.ACTIVE else f"{words}; besides, {_with_rule(db, key, reason or status)}"
        )
    words = _not_chosen(campaign, int(id_), members)
    if status == SubscriberStatus.ACTIVE:
        return words
    return f"{words}; it would be skipped: {_with_rule(db, key, reason or status)}"


def _memberships(db: Db, campaign_id: int, subscriber_id: int) -> list[_Membership]:
    rows = db.rows(
        "SELECT c.position, l.name, m.status, m.updated_at FROM campaign_lists c JOIN lists l ON l.id = c.list_id "
        "LEFT JOIN memberships m ON m.list_id = c.list_id AND m.subscriber_id = ? WHERE c.campaign_id = ? "
        "ORDER BY c.position",
        subscriber_id, campaign_id,
    )  # fmt: skip
    return [_Membership(int(position), name, status, int(since or 0)) for position, name, status, since in rows]


def _not_on_the_lists(found: Sequence[_Membership]) -> str:
    verbs = {MembershipStatus.UNSUBSCRIBED: "unsubscribed from", MembershipStatus.REMOVED: "was taken off"}
    left = [f"{verbs[MembershipStatus(m.status)]} {m.list_name} on {in_utc(m.since)}" for m in found if m.status]
    if left:
        return " and ".join(left)
    return f"is on none of the lists of this campaign ({', '.join(m.list_name for m in found)})"


def _not_chosen(campaign: Campaign, subscriber_id: int, members: Sequence[_Membership]) -> str:
    """Why a member of the campaign's lists is no recipient."""
    expansion = Expansion.get_or_none(Expansion.campaign_id == campaign.id)
    if expansion is None:
        where = f"is on {members[0].list_name}; the campaign is"
        if campaign.status in CAMPAIGN_ENDED:
            return f"{where} {campaign.status} and never chose its recipients"
        status = "a draft" if campaign.status == CampaignStatus.DRAFT else campaign.status
        when = f", at {in_utc(campaign.scheduled_at)}" if campaign.scheduled_at else ""
        return f"{where} {status} and chooses its recipients when it starts{when}"
    reached = (expansion.position, expansion.cursor_id)
    ahead = next((m for m in members if (m.position, subscriber_id) > reached), None)
    if expansion.state == ExpansionState.DONE or ahead is None:
        joined = max(members, key=lambda m: m.since)
        return f"joined {joined.list_name} on {in_utc(joined.since)}, after the campaign had read this list"
    trouble = f" ({expansion.error})" if expansion.error else ""
    if expansion.state == ExpansionState.RUNNING:
        return (
            f"is on {ahead.list_name}, list {ahead.position + 1} of this campaign, and not reached yet: "
            f"list {expansion.position + 1} is being expanded{trouble}"
        )
    return f"is on {ahead.list_name}, which was not read to its end: the campaign is {campaign.status}{trouble}"


# -- rules ---------------------------------------------------------------------------------------


def _with_rule(db: Db, key: str, reason: str) -> str:
    """A reason as it was kept; of a rule that still holds, also since when and why."""
    words = reason.removeprefix(f"{SubscriberStatus.BLOCKED}: ")
    if words == Rule(RuleKind.ADDRESS, key).name:
        return f"blocked by {_told(db, Rule(RuleKind.ADDRESS, key))}"
    domain = words.removeprefix("domain rule ")
    return f"blocked by {_told(db, parse_rule(domain))}" if domain != words else reason


def _told(db: Db, rule: Rule) -> str:
    return str(find_rule(db, rule) or f"{rule.name}, which is gone")

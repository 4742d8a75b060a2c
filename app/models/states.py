"""Every state, named once, and the sets of states that code asks about. Drawn in docs/states.md."""

from __future__ import annotations

from enum import StrEnum


class CampaignStatus(StrEnum):
    DRAFT = "draft"
    SCHEDULED = "scheduled"
    SENDING = "sending"
    PAUSED = "paused"
    SENT = "sent"
    CANCELLED = "cancelled"
    FAILED = "failed"


#: A campaign in one of these is expanded: also while nothing of it is sent.
CAMPAIGN_EXPANDS = frozenset({CampaignStatus.SENDING, CampaignStatus.PAUSED})

#: A campaign in one of these never changes again by itself.
CAMPAIGN_ENDED = frozenset({CampaignStatus.SENT, CampaignStatus.CANCELLED, CampaignStatus.FAILED})


class ExpansionState(StrEnum):
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"


class BatchState(StrEnum):
    READY = "ready"
    LEASED = "leased"
    DONE = "done"


#: A campaign with a batch in one of these is not finished.
BATCH_OPEN = frozenset({BatchState.READY, BatchState.LEASED})


class RecipientState(StrEnum):
    """What the database holds. A pending recipient of a leased batch is shown as `sending`."""

    PENDING = "pending"
    SENT = "sent"
    FAILED = "failed"
    SKIPPED = "skipped"
    UNKNOWN = "unknown"


class MembershipStatus(StrEnum):
    """Only `active` members are mailed; an import never makes `unsubscribed` active again."""

    ACTIVE = "active"
    UNSUBSCRIBED = "unsubscribed"
    REMOVED = "removed"


class SubscriberStatus(StrEnum):
    """`deleted` is a tombstone: the address stays, and importing it again revives the same id."""

    ACTIVE = "active"
    BLOCKED = "blocked"
    BOUNCED = "bounced"
    DELETED = "deleted"

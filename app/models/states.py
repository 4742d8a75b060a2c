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


#: A campaign in one of these may be written anew.
CAMPAIGN_CHANGES = frozenset({CampaignStatus.DRAFT, CampaignStatus.SCHEDULED})

#: A campaign in one of these is expanded: also while nothing of it is sent.
CAMPAIGN_EXPANDS = frozenset({CampaignStatus.SENDING, CampaignStatus.PAUSED})

#: A campaign in one of these never changes again by itself.
CAMPAIGN_ENDED = frozenset({CampaignStatus.SENT, CampaignStatus.CANCELLED, CampaignStatus.FAILED})

#: Those that may still change.
CAMPAIGN_OPEN = frozenset(CampaignStatus) - CAMPAIGN_ENDED


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


class ServerState(StrEnum):
    """A `removed` one stays for its name in what went over it."""

    ACTIVE = "active"
    PAUSED = "paused"
    REMOVED = "removed"


class NoticeState(StrEnum):
    """`waiting` for its time, `sending` while somebody has it in hand."""

    WAITING = "waiting"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"


class TargetState(StrEnum):
    """What users' checks say of a target; `unknown` until they have said enough."""

    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"


class ImportState(StrEnum):
    """A file of people on its way into a list."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


#: An import in one of these still has something to do.
IMPORT_OPEN = frozenset({ImportState.WAITING, ImportState.RUNNING})


class MembershipStatus(StrEnum):
    """Only `active` members are mailed; an import never makes `unsubscribed` active again."""

    ACTIVE = "active"
    UNSUBSCRIBED = "unsubscribed"
    REMOVED = "removed"


class SubscriberStatus(StrEnum):
    """Only `active` ones are mailed. `deleted` is a tombstone: the address stays, and importing it revives the same id.

    Why somebody is not active stands in `status_reason`, beginning with the status.
    """

    ACTIVE = "active"
    BLOCKED = "blocked"
    BOUNCED = "bounced"
    DELETED = "deleted"


#: Those who are not mailed, in the order in which queries bind them.
NOT_MAILED = tuple(sorted(set(SubscriberStatus) - {SubscriberStatus.ACTIVE}))


class RuleKind(StrEnum):
    """A rule of suppression. `opening`: one for a domain that has not reached all subscribers yet.

    It holds already: imports and senders go by the rule itself.
    """

    ADDRESS = "address"
    DOMAIN = "domain"
    OPENING = "opening"

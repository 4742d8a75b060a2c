"""Create and schedule campaigns, and start those whose time has come. States: docs/states.md."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from app.campaigns.audience import known_fields
from app.db import Db
from app.errors import NotFound, Refused, UsageError
from app.events import emit
from app.mail.address import parse_sender
from app.mail.template import validate
from app.models.states import CampaignStatus, ExpansionState, ServerState
from app.models.tables import Campaign, CampaignList, CampaignServer, List, Server

#: What their columns hold; SQLite would take more.
LONGEST_NAME = 200
LONGEST_SENDER = 500
HEAVIEST = 1000


@dataclass(frozen=True)
class Draft:
    """What a person says of a new campaign. Lists and servers by name; no server: all of them."""

    name: str
    subject: str
    sender: str
    lists: Sequence[str]
    servers: Sequence[str] = ()
    html: str | None = None
    text: str | None = None
    weight: int = 1


def create_campaign(db: Db, draft: Draft, now: int) -> int:
    """Check everything that can be checked, and store the campaign as a draft; its id.

    Raises UsageError, NotFound or TemplateProblem, and stores nothing then.
    """
    if not draft.name.strip() or len(draft.name) > LONGEST_NAME or not draft.name.isprintable():
        raise UsageError(f"NAME={draft.name[:50]!r} is not allowed: 1 to {LONGEST_NAME} characters in one line")
    if not draft.subject.strip():
        raise UsageError("--subject is empty: say what the mail is about")
    if not 1 <= draft.weight <= HEAVIEST:
        raise UsageError(f"--weight={draft.weight} is not allowed: 1 to {HEAVIEST}")
    if len(draft.sender) > LONGEST_SENDER:
        raise UsageError(f"--from has {len(draft.sender)} characters: {LONGEST_SENDER} at most")
    _, address = parse_sender(draft.sender)
    list_ids = [_list_id(name) for name in dict.fromkeys(draft.lists)]
    if not list_ids:
        raise UsageError("a campaign needs a list: --list NAME")
    server_ids = _server_ids(draft.servers)
    validate(draft.subject, draft.html, draft.text, known_fields(db, list_ids))
    with db.transaction():
        campaign = Campaign.create(
            name=draft.name, status=CampaignStatus.DRAFT, subject=draft.subject, sender=draft.sender,
            envelope_sender=address.email, html=draft.html, text=draft.text, weight=draft.weight,
            message_key=secrets.token_hex(8), created_at=now,
        )  # fmt: skip
        for position, list_id in enumerate(list_ids):
            CampaignList.create(campaign_id=campaign.id, position=position, list_id=list_id)
        for server_id in server_ids:
            CampaignServer.create(campaign_id=campaign.id, server_id=server_id)
    emit("campaign created", campaign_id=campaign.id, name=draft.name)
    return int(campaign.id)


def schedule_campaign(db: Db, campaign_id: int, at: int, now: int) -> None:
    """Have a draft sent at an instant in ms (now or earlier: at the next minute).

    Everything is checked again, for lists, servers and people may have changed. Scheduling a
    scheduled campaign again moves it. Raises NotFound, Refused or TemplateProblem.
    """
    campaign = find_campaign(campaign_id)
    list_ids = [row[0] for row in db.rows("SELECT list_id FROM campaign_lists WHERE campaign_id = ?", campaign_id)]
    for list_id in list_ids:
        if List.get_or_none(List.id == list_id) is None:
            raise NotFound(f"campaign {campaign_id}: its list {list_id} does not exist any more")
    if not _servers_of(db, campaign_id):
        raise NotFound(f"campaign {campaign_id} has no SMTP server left; add one with bin/mailcrew servers add")
    validate(campaign.subject, campaign.html, campaign.text, known_fields(db, list_ids))
    moved = db.run(
        "UPDATE campaigns SET status = ?, scheduled_at = ? WHERE id = ? AND status IN (?, ?)",
        CampaignStatus.SCHEDULED, max(at, now), campaign_id, CampaignStatus.DRAFT, CampaignStatus.SCHEDULED,
    )  # fmt: skip
    if moved != 1:
        raise Refused(f"campaign {campaign_id} is {find_campaign(campaign_id).status}: only a draft can be scheduled")
    emit("campaign scheduled", campaign_id=campaign_id, at=at)


def start_due(db: Db, now: int) -> list[int]:
    """Start the campaigns whose time has come; their ids. Any number of ticks may do this at once."""
    started = []
    due = db.rows(
        "SELECT id FROM campaigns WHERE status = ? AND scheduled_at <= ? ORDER BY scheduled_at, id",
        CampaignStatus.SCHEDULED, now,
    )  # fmt: skip
    for (campaign_id,) in due:
        with db.transaction():
            mine = db.run(
                "UPDATE campaigns SET status = ?, started_at = ? WHERE id = ? AND status = ? AND scheduled_at <= ?",
                CampaignStatus.SENDING, now, campaign_id, CampaignStatus.SCHEDULED, now,
            )  # fmt: skip
            if mine:
                db.run(
                    "INSERT INTO expansions (campaign_id, state, updated_at) VALUES (?, ?, ?)",
                    campaign_id, ExpansionState.RUNNING, now,
                )  # fmt: skip
        if mine:
            emit("campaign started", campaign_id=campaign_id)
            started.append(int(campaign_id))
    return started


def find_campaign(campaign_id: int) -> Campaign:
    """The campaign of this id; raises NotFound."""
    # SQLite takes no number beyond 64 bits, not even to find nothing.
    there = -(2**63) <= campaign_id < 2**63
    found: Campaign | None = Campaign.get_or_none(Campaign.id == campaign_id) if there else None
    if found is None:
        raise NotFound(f"there is no campaign {campaign_id}; see bin/mailcrew campaigns list")
    return found


def _list_id(name: str) -> int:
    found = List.get_or_none(List.name == name)
    if found is None:
        raise NotFound(f"there is no list {name!r}; see bin/mailcrew lists show")
    return int(found.id)


def _server_ids(names: Sequence[str]) -> list[int]:
    there = Server.select().where(Server.state != ServerState.REMOVED)
    if names:
        found = {str(s.name): int(s.id) for s in there.where(Server.name.in_(list(names)))}
        missing = [name for name in names if name not in found]
        if missing:
            raise NotFound(f"there is no server {missing[0]!r}; see bin/mailcrew servers list")
        return list(found.values())
    every = [int(s.id) for s in there]
    if not every:
        raise NotFound("there is no SMTP server yet; add one with bin/mailcrew servers add NAME --host … --port …")
    return every


def _servers_of(db: Db, campaign_id: int) -> list[int]:
    rows = db.rows(
        "SELECT s.id FROM campaign_servers c JOIN servers s ON s.id = c.server_id "
        "WHERE c.campaign_id = ? AND s.state <> ?",
        campaign_id, ServerState.REMOVED,
    )  # fmt: skip
    return [int(row[0]) for row in rows]

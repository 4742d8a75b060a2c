"""Write campaigns: make, change, copy, throw away, put off. Only drafts and scheduled ones change.

Every change is fenced by one conditional UPDATE of the campaign, and the tick that starts it is fenced the same
way: what is sent is the whole of one version, never half of two.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from app.campaigns.audience import known_fields
from app.campaigns.lifecycle import HEAVIEST, LONGEST_NAME, LONGEST_SENDER, Draft, find_campaign
from app.db import Db
from app.errors import BadField, Refused
from app.events import emit
from app.mail.address import BadAddress, parse_sender
from app.mail.template import validate
from app.models.states import CAMPAIGN_CHANGES, CampaignStatus, ServerState
from app.models.tables import Campaign, CampaignList, CampaignServer, List, Server

#: What people call a field of a Draft otherwise.
_CALLED = {"from": "sender"}


@dataclass(frozen=True)
class Content:
    """All that a person has said of a campaign. `version` is another one after every change of `draft`."""

    id: int
    status: str
    draft: Draft
    scheduled_at: int | None

    @property
    def version(self) -> str:
        said = json.dumps(asdict(self.draft), sort_keys=True)
        return hashlib.sha256(said.encode("utf-8", "replace")).hexdigest()[:16]

    @property
    def changes(self) -> bool:
        """Whether it may still be changed."""
        return self.status in CAMPAIGN_CHANGES


@dataclass(frozen=True)
class Checked:
    """A draft in which nothing is wrong, with the ids of what it names."""

    draft: Draft
    envelope_sender: str
    lists: Sequence[int]
    servers: Sequence[int]


def field_of(name: str) -> str:
    """The field of a Draft that people, and errors, call so."""
    return _CALLED.get(name, name)


def content_of(db: Db, campaign_id: int) -> Content:
    """Raises NotFound."""
    campaign = find_campaign(campaign_id)
    lists = db.rows(
        "SELECT l.name FROM campaign_lists c JOIN lists l ON l.id = c.list_id WHERE c.campaign_id = ? "
        "ORDER BY c.position",
        campaign_id,
    )
    servers = db.rows(
        "SELECT s.name FROM campaign_servers c JOIN servers s ON s.id = c.server_id WHERE c.campaign_id = ? "
        "AND s.state <> ? ORDER BY s.id",
        campaign_id, ServerState.REMOVED,
    )  # fmt: skip
    draft = Draft(
        name=campaign.name, subject=campaign.subject, sender=campaign.sender,
        lists=[str(row[0]) for row in lists], servers=[str(row[0]) for row in servers],
        html=campaign.html, text=campaign.text, weight=campaign.weight,
    )  # fmt: skip
    return Content(campaign_id, campaign.status, draft, campaign.scheduled_at)


def check(db: Db, draft: Draft) -> Checked:
    """Everything that can be checked before people are mailed.

    Raises BadField, or TemplateProblem for subject, html and text, which name their field alike.
    """
    if not draft.name.strip() or len(draft.name) > LONGEST_NAME or not draft.name.isprintable():
        raise BadField("name", f"name {draft.name[:50]!r} is not allowed: 1 to {LONGEST_NAME} characters in one line")
    if not draft.subject.strip():
        raise BadField("subject", "the subject is empty: say what the mail is about")
    if not 1 <= draft.weight <= HEAVIEST:
        raise BadField("weight", f"weight {draft.weight} is not allowed: a whole number from 1 to {HEAVIEST}")
    if len(draft.sender) > LONGEST_SENDER:
        raise BadField("from", f"the sender has {len(draft.sender)} characters: {LONGEST_SENDER} at most")
    try:
        _, address = parse_sender(draft.sender)
    except BadAddress as error:
        raise BadField("from", str(error)) from error
    lists, servers = _lists(draft.lists), _servers(draft.servers)
    validate(draft.subject, draft.html or None, draft.text or None, known_fields(db, lists))
    return Checked(draft, address.email, lists, servers)


def create(db: Db, draft: Draft, now: int) -> int:
    """Store a new draft; its id. Raises as `check` does."""
    checked = check(db, draft)
    with db.transaction():
        campaign = Campaign.create(
            status=CampaignStatus.DRAFT, message_key=secrets.token_hex(8), created_at=now, **_columns(checked)
        )
        _connect(campaign.id, checked)
    emit("campaign created", campaign_id=campaign.id, name=draft.name)
    return int(campaign.id)


def change(db: Db, campaign_id: int, said: Mapping[str, Any], version: str | None = None) -> Content:
    """Change these fields of a Draft, the others stay; the content as it is then.

    `version`: what the caller had seen. Raises NotFound, Refused when it is sent already or somebody else was
    faster, and as `check` does.
    """
    with db.transaction():
        _hold(db, campaign_id)
        before = content_of(db, campaign_id)
        if version is not None and version != before.version:
            raise Refused(f"campaign {campaign_id} was changed by somebody else meanwhile: load it again")
        checked = check(db, replace(before.draft, **said))
        Campaign.update(**_columns(checked)).where(Campaign.id == campaign_id).execute()
        CampaignList.delete().where(CampaignList.campaign_id == campaign_id).execute()
        CampaignServer.delete().where(CampaignServer.campaign_id == campaign_id).execute()
        _connect(campaign_id, checked)
    emit("campaign changed", campaign_id=campaign_id, fields=sorted(said))
    return content_of(db, campaign_id)


def delete(db: Db, campaign_id: int) -> None:
    """Throw a draft away; its id is never used again. Raises NotFound, or Refused when it is none."""
    with db.transaction():
        gone = db.run("DELETE FROM campaigns WHERE id = ? AND status = ?", campaign_id, CampaignStatus.DRAFT)
        if gone != 1:
            status = find_campaign(campaign_id).status
            raise Refused(f"campaign {campaign_id} is {status}: only a draft can be deleted")
        db.run("DELETE FROM campaign_lists WHERE campaign_id = ?", campaign_id)
        db.run("DELETE FROM campaign_servers WHERE campaign_id = ?", campaign_id)
    emit("campaign deleted", campaign_id=campaign_id)


def copy(db: Db, campaign_id: int, name: str, now: int) -> int:
    """A new draft like this campaign, whatever has become of that; its id. Raises NotFound and as `check` does."""
    return create(db, replace(content_of(db, campaign_id).draft, name=name), now)


def unschedule(db: Db, campaign_id: int) -> None:
    """Make a draft again of what is scheduled; raises NotFound, or Refused when it is not."""
    mine = db.run(
        "UPDATE campaigns SET status = ?, scheduled_at = NULL WHERE id = ? AND status = ?",
        CampaignStatus.DRAFT, campaign_id, CampaignStatus.SCHEDULED,
    )  # fmt: skip
    if mine != 1:
        raise Refused(f"campaign {campaign_id} is {find_campaign(campaign_id).status}: it is not scheduled")
    emit("campaign unscheduled", campaign_id=campaign_id)


def _hold(db: Db, campaign_id: int) -> None:
    """Keep the tick and others off it until this transaction ends."""
    marks = ", ".join("?" * len(CAMPAIGN_CHANGES))
    mine = db.run(
        f"UPDATE campaigns SET status = status WHERE id = ? AND status IN ({marks})",
        campaign_id, *sorted(CAMPAIGN_CHANGES),
    )  # fmt: skip
    if mine != 1:
        status = find_campaign(campaign_id).status
        raise Refused(f"campaign {campaign_id} is {status}: what is sent does not change any more; copy it")


def _columns(checked: Checked) -> dict[str, Any]:
    draft = checked.draft
    return {
        "name": draft.name.strip(), "subject": draft.subject, "sender": draft.sender.strip(),
        "envelope_sender": checked.envelope_sender,
        "html": draft.html or None, "text": draft.text or None, "weight": draft.weight,
    }  # fmt: skip


def _connect(campaign_id: int, checked: Checked) -> None:
    for position, list_id in enumerate(checked.lists):
        CampaignList.create(campaign_id=campaign_id, position=position, list_id=list_id)
    for server_id in checked.servers:
        CampaignServer.create(campaign_id=campaign_id, server_id=server_id)


def _lists(names: Sequence[str]) -> list[int]:
    found = {str(one.name): int(one.id) for one in List.select().where(List.name.in_(list(names)))} if names else {}
    for name in names:
        if name not in found:
            raise BadField("lists", f"there is no list {name!r}: make it first, by importing people into it")
    if not found:
        raise BadField("lists", "choose at least one list of people to write to")
    return [found[name] for name in dict.fromkeys(names)]


def _servers(names: Sequence[str]) -> list[int]:
    """Those named, all when none is: as they are now."""
    there = {str(one.name): int(one.id) for one in Server.select().where(Server.state != ServerState.REMOVED)}
    for name in names:
        if name not in there:
            raise BadField("servers", f"there is no SMTP server {name!r}")
    if not there:
        raise BadField(
            "servers", "there is no SMTP server yet: add one (bin/mailcrew servers add NAME --host … --port …)"
        )
    return [there[name] for name in dict.fromkeys(names)] or list(there.values())

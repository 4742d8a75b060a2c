"""See a campaign's mail as one real subscriber would get it, made by the very code that sends it."""

from __future__ import annotations

import json
import random
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default as modern

from app.campaigns.authoring import Checked
from app.campaigns.letter import Letter
from app.campaigns.mails import Mail
from app.db import Db
from app.errors import BadField
from app.mail.address import BadAddress, parse_address
from app.models.states import MembershipStatus, SubscriberStatus
from app.models.tables import Campaign

FIRST, RANDOM = "first", "random"

_COLUMNS = "s.id, s.email, s.name, s.attributes"
_STUFFED = re.compile(rb"^\.", re.MULTILINE)


@dataclass(frozen=True)
class Preview:
    """One mail: what it shows, and its headers in their order. `size` in bytes, as it goes over the wire.

    `html` and `text` are None when the campaign has no such part.
    """

    subscriber_id: int
    email: str
    name: str
    subject: str
    html: str | None
    text: str | None
    headers: list[tuple[str, str]]
    size: int


def reader(db: Db, list_ids: Sequence[int], who: str = FIRST) -> Mail:
    """Somebody of these lists who would be mailed: the first, a random one, or the one with this address.

    Raises BadField.
    """
    if who not in (FIRST, RANDOM):
        return _by_address(db, list_ids, who)
    for list_id in random.sample(list_ids, len(list_ids)) if who == RANDOM else list_ids:
        start = _somewhere(db, list_id) if who == RANDOM else 0
        found = _from(db, list_id, start) or _from(db, list_id, 0)
        if found:
            return found
    raise BadField("lists", "nobody on these lists would be mailed: import people first")


def preview(db: Db, checked: Checked, who: str = FIRST, *, like: Campaign | None = None) -> Preview:
    """The mail of a draft (`like`: of this stored campaign) to `reader`; raises BadField or TemplateProblem."""
    mail = reader(db, checked.lists, who)
    content = Letter(as_campaign(checked, like)).compose(mail)
    parsed = message_from_bytes(_STUFFED.sub(b"", content), policy=modern)
    assert isinstance(parsed, EmailMessage)
    return Preview(
        subscriber_id=mail.subscriber_id, email=mail.email, name=mail.name, subject=str(parsed["Subject"] or ""),
        html=_part(parsed, "html"), text=_part(parsed, "plain"),
        headers=[(name, str(value)) for name, value in parsed.items()],
        size=len(content),
    )  # fmt: skip


def as_campaign(checked: Checked, like: Campaign | None = None) -> Campaign:
    """A campaign of this content that nobody stores: what a Letter is made of."""
    draft = checked.draft
    return Campaign(
        id=like.id if like else 0, message_key=like.message_key if like else secrets.token_hex(8),
        name=draft.name, subject=draft.subject, sender=draft.sender, envelope_sender=checked.envelope_sender,
        html=draft.html or None, text=draft.text or None,
    )  # fmt: skip


def _part(message: EmailMessage, kind: str) -> str | None:
    body = message.get_body((kind,))
    return str(body.get_content()).replace("\r\n", "\n") if isinstance(body, EmailMessage) else None


def _by_address(db: Db, list_ids: Sequence[int], who: str) -> Mail:
    try:
        key = parse_address(who.strip()).key
    except BadAddress as error:
        raise BadField("email", str(error)) from error
    marks = ", ".join("?" * len(list_ids))
    row = db.row(
        f"SELECT {_COLUMNS} FROM subscribers s WHERE s.email_key = ? AND s.status = ? AND EXISTS "
        f"(SELECT 1 FROM memberships m WHERE m.subscriber_id = s.id AND m.list_id IN ({marks}) AND m.status = ?)",
        key, SubscriberStatus.ACTIVE, *list_ids, MembershipStatus.ACTIVE,
    )  # fmt: skip
    if row is None:
        raise BadField(
            "email", f"{who.strip()} would not be mailed: not subscribed to a list of this campaign, or blocked"
        )
    return _mail(row)


def _from(db: Db, list_id: int, start: int) -> Mail | None:
    """The first of a list, from this subscriber's id on."""
    row = db.row(
        f"SELECT {_COLUMNS} FROM memberships m JOIN subscribers s ON s.id = m.subscriber_id AND s.status = ? "
        "WHERE m.list_id = ? AND m.status = ? AND m.subscriber_id >= ? ORDER BY m.subscriber_id LIMIT 1",
        SubscriberStatus.ACTIVE, list_id, MembershipStatus.ACTIVE, start,
    )  # fmt: skip
    return _mail(row) if row else None


def _somewhere(db: Db, list_id: int) -> int:
    """An id somewhere between the lowest and the highest of a list."""
    ends = [
        db.value(
            "SELECT subscriber_id FROM memberships WHERE list_id = ? AND status = ? "
            f"ORDER BY subscriber_id {way} LIMIT 1",
            list_id, MembershipStatus.ACTIVE,
        )
        for way in ("ASC", "DESC")
    ]  # fmt: skip
    return random.randint(ends[0], ends[1]) if ends[0] is not None else 0  # noqa: S311 (no secret)


def _mail(row: tuple[object, ...]) -> Mail:
    id_, email, name, attributes = row
    return Mail(
        subscriber_id=int(str(id_)), email=str(email), name=str(name), attributes=json.loads(str(attributes)),
        skip_reason="", attempts=0, tried_at=None,
    )  # fmt: skip

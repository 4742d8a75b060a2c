"""Send one test mail of a campaign, to an address of its author's.

It goes over the campaign's servers and counts against their limits. It is nobody's mail otherwise: no recipient, a
Message-ID of its own, and a subject that says what it is.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import redis

from app.campaigns.authoring import Checked
from app.campaigns.letter import Letter
from app.campaigns.preview import FIRST, as_campaign, reader
from app.db import Db
from app.errors import BadField, Unavailable
from app.events import emit
from app.mail.address import BadAddress, parse_address
from app.mail.allowance import Allowance
from app.mail.limits import History, Limiter
from app.mail.one_mail import PATIENCE_SECONDS, OneMail, Way, send_one
from app.mail.servers import Usable, servers_of

MARK = "[Test] "


@dataclass(frozen=True)
class Accepted:
    """A test mail that a server has taken, with what it said."""

    to: str
    server: str
    reply: str
    message_id: str


@dataclass(frozen=True)
class _Composed(OneMail):
    """A mail that has been composed already."""

    whole: bytes = b""

    def content(self) -> bytes:
        return self.whole


def send_test(
    db: Db, client: redis.Redis, campaign_id: int, checked: Checked, to: str, *, who: str = FIRST, server: str = ""
) -> Accepted:
    """Send the mail that `who` would get (see `reader`) to the address `to` instead.

    `server`: the name of one of the campaign's; empty: the first that can take it now, those in trouble last. Where
    a template says the reader's address it says `to`. Raises BadField and TemplateProblem, Refused when a server
    refuses this mail, Unavailable when none can take it now.
    """
    try:
        address = parse_address(to.strip())
    except BadAddress as error:
        raise BadField("to", str(error)) from error
    letter, mail = _letter(db, checked, who, address.email)
    allowance = Allowance(db, Limiter(client, History(db)))
    troubles, until = [], time.monotonic() + PATIENCE_SECONDS
    for one in _servers(db, campaign_id, letter.envelope_sender, server):
        if one.unset:
            troubles.append(f"{one.name}: the variable {one.unset} with its password is not set")
            continue
        try:
            outcome = send_one(mail, [Way(one.address, one.id, one.name, one.limits)], allowance)
        except Unavailable as error:
            troubles.append(f"{one.name}: {error}")
            if time.monotonic() > until:
                break
            continue
        emit("test mail sent", campaign_id=campaign_id, to=address.email, server=one.name)
        return Accepted(address.email, one.name, str(outcome.reply), mail.message_id)
    raise Unavailable(f"no server takes the test mail now: {'; '.join(troubles)}")


def _letter(db: Db, checked: Checked, who: str, to: str) -> tuple[Letter, _Composed]:
    marked = replace(checked, draft=replace(checked.draft, subject=MARK + checked.draft.subject))
    letter = Letter(as_campaign(marked))
    mail = replace(reader(db, checked.lists, who), email=to)
    return letter, _Composed(
        sender=letter.envelope_sender, recipient=to, subject="", body="",
        message_id=letter.message_id(mail.subscriber_id), whole=letter.compose(mail),
    )  # fmt: skip


def _servers(db: Db, campaign_id: int, sender: str, name: str) -> list[Usable]:
    now = db.now_ms()
    found = servers_of(db, campaign_id, sender.lower())
    if name:
        found = [one for one in found if one.name == name]
        if not found:
            raise BadField("server", f"{name!r} is no active SMTP server of this campaign")
    if not found:
        raise BadField("servers", "this campaign has no active SMTP server")
    return sorted(found, key=lambda one: any(trouble.until > now for _, trouble in one.spots))

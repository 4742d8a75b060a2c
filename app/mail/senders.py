"""Sender addresses: pausing one, letting it go on, and how they all are.

A sender is its address in lower case, so `News@shop.com` and `news@shop.com` are one. While one is paused, nothing is
leased of its campaigns (`app/campaigns/batches.py`); campaigns from other senders go on.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from peewee import IntegrityError

from app.db import Db
from app.errors import UsageError
from app.instants import iso
from app.mail.address import parse_sender
from app.mail.servers import release_holds
from app.models.states import CampaignStatus

#: Why nothing of a campaign `c` may be sent as far as its sender goes: a column, NULL when it may.
PAUSED_BECAUSE = "(SELECT p.reason FROM paused_senders p WHERE p.sender = LOWER(c.envelope_sender))"

BY_HAND = "paused by hand"


@dataclass(frozen=True)
class Cooldown:
    """One server that does not take mails from a sender for a while. Instants in ms."""

    server: str
    until: int
    reason: str
    timezone: str


@dataclass(frozen=True)
class SenderView:
    """`state`: paused, cooling (one server at least does not take its mails just now) or active.

    `campaigns`: those of its that are being sent. `paused_at` in ms.
    """

    sender: str
    state: str
    reason: str | None = None
    paused_at: int | None = None
    cooldowns: list[Cooldown] = field(default_factory=list)
    campaigns: list[int] = field(default_factory=list)


def sender_document(one: SenderView) -> dict[str, Any]:
    """What scripts read of a sender."""
    cooldowns = [{**asdict(cooling), "until": iso(cooling.until)} for cooling in one.cooldowns]
    return {**asdict(one), "paused_at": iso(one.paused_at), "cooldowns": cooldowns}


def sender_key(text: str) -> str:
    """What a sender is known by, from `news@shop.com` or `Shop <news@shop.com>`; raises BadAddress."""
    return parse_sender(text)[1].email.lower()


def pause_sender(db: Db, text: str, reason: str | None, now: int) -> bool:
    """Have nothing more sent from this address; False when it was paused already (a reason replaces its own).

    Raises UsageError. What workers have in hand is halted within a moment; see `app/campaigns/halting.py`.
    """
    sender = sender_key(text)
    said = " ".join((reason or "").split())
    if len(said) > 500:
        raise UsageError(f"--reason has {len(said)} characters: 500 at most")
    try:
        db.run(
            "INSERT INTO paused_senders (sender, reason, paused_at) VALUES (?, ?, ?)", sender, said or BY_HAND, now
        )  # fmt: skip
    except IntegrityError:
        if said:
            db.run("UPDATE paused_senders SET reason = ? WHERE sender = ?", said, sender)
        return False
    return True


def resume_sender(db: Db, text: str) -> bool:
    """Let a paused address go on, its campaigns at once; False when it was not paused. Raises BadAddress."""
    sender = sender_key(text)
    with db.transaction():
        resumed = db.run("DELETE FROM paused_senders WHERE sender = ?", sender) == 1
        if resumed:
            release_holds(db, sender=sender)
    return resumed


def cooling_at(db: Db, server_id: int) -> list[tuple[str, int, str]]:
    """The addresses that a server does not take mails from, until when (ms; then one mail tries) and why; by name."""
    rows = db.rows(
        "SELECT sender, cooldown_until, cooldown_reason FROM sender_cooldowns WHERE server_id = ? "
        "AND cooldown_step > 0 ORDER BY sender",
        server_id,
    )  # fmt: skip
    return [(str(sender), int(until), str(reason)) for sender, until, reason in rows]


def senders(db: Db) -> list[SenderView]:
    """The addresses that are paused, in trouble at a server, or being sent from; by name."""
    paused = {row[0]: row[1:] for row in db.rows("SELECT sender, reason, paused_at FROM paused_senders")}
    cooling: dict[str, list[Cooldown]] = {}
    for sender, until, reason, server, timezone in db.rows(
        "SELECT LOWER(d.sender), d.cooldown_until, d.cooldown_reason, s.name, s.timezone FROM sender_cooldowns d "
        "JOIN servers s ON s.id = d.server_id WHERE d.cooldown_step > 0 ORDER BY d.cooldown_until, s.name"
    ):
        cooling.setdefault(sender, []).append(Cooldown(server, int(until), reason, timezone))
    sending: dict[str, list[int]] = {}
    for sender, campaign_id in db.rows(
        "SELECT LOWER(envelope_sender), id FROM campaigns WHERE status = ? ORDER BY id", CampaignStatus.SENDING
    ):
        sending.setdefault(sender, []).append(int(campaign_id))
    found = []
    for sender in sorted({*paused, *cooling, *sending}):
        state = "paused" if sender in paused else "cooling" if sender in cooling else "active"
        reason, paused_at = paused.get(sender, (None, None))
        found.append(SenderView(sender, state, reason, paused_at, cooling.get(sender, []), sending.get(sender, [])))
    return found

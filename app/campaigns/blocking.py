"""Why nothing of a sending campaign can move just now, in one phrase for people."""

from __future__ import annotations

from app.db import Db
from app.mail.senders import PAUSED_BECAUSE
from app.mail.when import shown_at
from app.models.states import BatchState
from app.models.tables import Campaign, Expansion

#: A campaign that is held for so short a time (ms) while somebody has it in hand is not blocked, only limited.
BRIEF_MS = 2_000


def blocked_by(db: Db, campaign: Campaign, expansion: Expansion | None, now: int) -> str | None:
    """The phrase for a campaign that is `sending`, None when something of it can move."""
    if expansion is not None and expansion.error:
        return f"expansion: {expansion.error} (tried again by itself)"
    if reason := db.value(f"SELECT {PAUSED_BECAUSE} FROM campaigns c WHERE c.id = ?", campaign.id):
        return f"sender {campaign.envelope_sender} is paused: {reason}"
    in_hand = _has_batch(db, campaign.id, "state = ?", BatchState.LEASED)
    held_for = campaign.held_until - now
    if campaign.held_by and held_for > (BRIEF_MS if in_hand else 0):
        return f"{campaign.held_by}, free at {shown_at(campaign.held_until, _zone(db, campaign), now)}"
    if in_hand or _has_batch(db, campaign.id, "state = ? AND ready_at <= ?", BatchState.READY, now):
        return None
    return _servers(db, campaign.id, now) or _later(db, campaign.id, now)


def _has_batch(db: Db, campaign_id: int, condition: str, *values: object) -> bool:
    found = db.value(f"SELECT 1 FROM batches WHERE campaign_id = ? AND {condition} LIMIT 1", campaign_id, *values)
    return found is not None


def _zone(db: Db, campaign: Campaign) -> str:
    """The zone of the server that is named in what holds the campaign, or of its first one."""
    rows = db.rows(
        "SELECT s.name, s.timezone FROM campaign_servers c JOIN servers s ON s.id = c.server_id "
        "WHERE c.campaign_id = ? ORDER BY LENGTH(s.name) DESC",
        campaign.id,
    )
    # The longest name first: ses-1 is also the beginning of ses-10.
    named = next((zone for name, zone in rows if f"server {name}" in (campaign.held_by or "")), None)
    return named or (rows[0][1] if rows else "UTC")


def _servers(db: Db, campaign_id: int, now: int) -> str | None:
    """What keeps every server of the campaign from being used."""
    servers = db.rows(
        "SELECT s.name, s.state, s.cooldown_until, s.cooldown_reason, s.timezone FROM campaign_servers c "
        "JOIN servers s ON s.id = c.server_id WHERE c.campaign_id = ? ORDER BY s.cooldown_until, s.id",
        campaign_id,
    )
    active = [row for row in servers if row[1] == "active"]
    if not active:
        paused = [row[0] for row in servers if row[1] == "paused"]
        if paused:
            return f"server {paused[0]} is paused: bin/mailcrew servers change {paused[0]} --resume"
        return "no active SMTP server: bin/mailcrew servers list"
    if all((until or 0) > now for _, _, until, _, _ in active):
        name, _, until, reason, zone = active[0]
        return f"server {name}: {reason}, tried again at {shown_at(until, zone, now)}"
    return None


def _later(db: Db, campaign_id: int, now: int) -> str | None:
    later = db.value(
        "SELECT MIN(ready_at) FROM batches WHERE campaign_id = ? AND state = ?", campaign_id, BatchState.READY
    )
    if not later:
        return None
    return f"recipients whose servers said later; the next are tried in {max(1, (int(later) - now) // 1000)} s"

"""What waits to be mailed: recipients of sending campaigns, from the counters of their batches."""

from __future__ import annotations

from dataclasses import dataclass

from app.db import Db
from app.db.connection import Row
from app.models.states import BatchState, CampaignStatus

#: The speed of a fast campaign is that of the last so many ms.
RATE_WINDOW_MS = 10_000
#: Fast is one that has ended so many batches in them: then it does not matter how long each was open.
ENOUGH_BATCHES = 20
MINUTE_MS = 60_000
#: A campaign that may not send for longer than this (ms), because of a limit or of its servers' trouble, gives workers
#: nothing to do.
HELD_MS = 10_000


@dataclass(frozen=True)
class Speed:
    """Mails a second, and over how many seconds that was measured."""

    per_second: float
    seconds: float


@dataclass(frozen=True)
class Recipients:
    """One sending campaign. `due` may go now, `later` waits for its time, `leased` is in workers' hands, `done` over.

    `oldest_seconds`: how long the longest-waiting due batch has been ready, None when none is due. `held_by`: what
    keeps all of its servers from being used, now or until a moment ago; for longer than a moment, nothing is due.
    `rate_seconds`: over how many the speed was measured.
    """

    campaign_id: int
    name: str
    due: int
    later: int
    leased: int
    done: int
    oldest_seconds: float | None
    rate_per_second: float
    rate_seconds: float = RATE_WINDOW_MS / 1000
    held_by: str | None = None


def measured_since(now: int) -> tuple[int, int]:
    """Since which instant (ms) batches that ended count for the speed, and since which minute (from 1970) mails do."""
    return now - RATE_WINDOW_MS, now // MINUTE_MS - 1


def speed_of(batches: int, lately: int, in_minutes: int, started: int, now: int) -> Speed:
    """The speed, from what has ended since `measured_since`: so many batches with `lately` mails, `in_minutes` mails.

    A batch that waits for a limit stays open for long, so what it counts when it ends says little of the speed. What
    was sent in each minute does, and is older.
    """
    lately_ms, minutes_ms = (
        max(1000, min(now - since, now - started))
        for since in (now - RATE_WINDOW_MS, measured_since(now)[1] * MINUTE_MS)
    )
    mails, ms = (lately, lately_ms) if batches >= ENOUGH_BATCHES else (in_minutes, minutes_ms)
    return Speed(round(mails * 1000 / ms, 1), ms / 1000)


def waiting_recipients(db: Db, now: int) -> dict[int, Recipients]:
    """Every sending campaign by its id, at `now` (ms)."""
    ready = f"b.state = '{BatchState.READY}'"
    recent, minute = measured_since(now)
    rows = db.rows(
        "SELECT c.id, c.name, "
        f"COALESCE(SUM(CASE WHEN {ready} AND b.ready_at <= ? THEN b.pending ELSE 0 END), 0), "
        f"COALESCE(SUM(CASE WHEN {ready} AND b.ready_at > ? THEN b.pending ELSE 0 END), 0), "
        f"COALESCE(SUM(CASE WHEN b.state = '{BatchState.LEASED}' THEN b.pending ELSE 0 END), 0), "
        f"MIN(CASE WHEN {ready} AND b.ready_at <= ? THEN b.ready_at END), "
        "SUM(CASE WHEN b.finished_at >= ? THEN 1 ELSE 0 END), "
        "COALESCE(SUM(CASE WHEN b.finished_at >= ? THEN b.sent + b.failed ELSE 0 END), 0), c.started_at, "
        "COALESCE(SUM(b.sent + b.failed + b.skipped + b.unknown), 0), c.held_until, c.held_by, "
        "(SELECT COALESCE(SUM(d.sent + d.failed), 0) FROM deliveries d WHERE d.campaign_id = c.id AND d.minute >= ?), "
        "(SELECT p.reason FROM paused_senders p WHERE p.sender = LOWER(c.envelope_sender)) "
        "FROM campaigns c LEFT JOIN batches b ON b.campaign_id = c.id WHERE c.status = ? "
        "GROUP BY c.id, c.name, c.started_at, c.held_until, c.held_by, c.envelope_sender ORDER BY c.id",
        now, now, now, recent, recent, minute, CampaignStatus.SENDING,
    )  # fmt: skip
    return {int(row[0]): _campaign(row, now) for row in rows}


def _campaign(row: Row, now: int) -> Recipients:
    id_, name, due, later, leased, ready_at, batches, lately, started, done, *rest = row
    held_until, held_by, in_minutes, paused = rest
    started = int(started or now)
    # A batch that may go at once has 0 there, so it has waited since its campaign began.
    since = None if ready_at is None else max(int(ready_at), started)
    speed = speed_of(int(batches or 0), int(lately), int(in_minutes), started, now)
    held = f"its sender is paused: {paused}" if paused else held_by if held_until > now - HELD_MS else None
    if paused or held_until > now + HELD_MS:
        due, later, since = 0, int(due) + int(later), None
    return Recipients(
        campaign_id=int(id_), name=str(name), due=int(due), later=int(later), leased=int(leased), done=int(done),
        oldest_seconds=None if since is None else max(0.0, (now - since) / 1000),
        rate_per_second=speed.per_second, rate_seconds=speed.seconds, held_by=held,
    )  # fmt: skip

"""What is wrong with sending: servers in trouble, campaigns that stand still, mails to decide about, late schedules."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

from app.campaigns.blocking import blocked_by
from app.campaigns.hosts import hosts_at_work
from app.campaigns.journal import host_name
from app.db import Db
from app.mail.when import shown_at
from app.models.states import CampaignStatus, ExpansionState, ServerState
from app.models.tables import Campaign
from app.scaling.alerts import Alert, Kind, Severity
from app.schedules.search import LATE_MS
from app.watch.picture import Picture

SENDING, QUEUES, HEARTBEATS = "sending", "queues", "heartbeats"
#: A campaign whose minute has passed for so long, in ms, is late: a tick comes every minute.
LATE_START_MS = 180_000
#: A campaign that failed is told of for a day.
DAY_MS = 86_400_000
#: Another host's leases that ran out so long ago, in ms, are no moment between two renewals.
SILENT_HOST_MS = 120_000
#: Sending campaigns that are looked at one by one.
MOST_CAMPAIGNS = 50
#: More than so many are only counted so far.
MOST_COUNTED = 10_000

#: Why a campaign may stand still without anything being wrong.
_USUAL = re.compile(
    r"(second|minute|hour|day|connection) limit of |limits of server |recipients whose servers said later"
)

_alert = partial(Alert, source=SENDING, everywhere=True)


def sending_alerts(db: Db, now: int) -> list[Alert]:
    """What the database says, at `now` (ms). Every host sees the same."""
    return [
        *_servers(db, now), *_paused(db), *_failed(db, now), *_late(db, now), *_expansions(db), *_blocked(db, now),
        *_unknown(db), *_schedules(db, now), *_hosts(db, now),
    ]  # fmt: skip


def queue_alerts(picture: Picture) -> Iterator[Alert]:
    """Dead letters, and workers that say themselves what keeps them from working."""
    for queue, count in picture.dead.items():
        if count:
            what = f"{count:,} tasks failed for good"
            values: dict[str, str | int] = {"queue": queue, "n": count}
            remedy = f"bin/mailcrew dead list --queue {queue}"
            yield Alert(f"dead:{queue}", queue, what, remedy, "dead", values=values, source=QUEUES, everywhere=True)
    for worker in picture.heartbeats or ():
        if worker.trouble:
            remedy = f"bin/supervisor-manager logs {worker.program} --errors"
            values = {"process": worker.program, "host": worker.host, "what": worker.trouble}
            yield Alert(
                f"trouble:{worker.host}:{worker.program}", worker.program, worker.trouble, remedy, "worker_trouble",
                values=values, source=HEARTBEATS, everywhere=True,
            )  # fmt: skip


def _servers(db: Db, now: int) -> Iterator[Alert]:
    """Servers, and senders at them, that have cooled down and have not taken a mail since."""
    rows = db.rows(
        "SELECT id, name, timezone, cooldown_until, cooldown_reason, cooldown_step, NULL FROM servers "
        "WHERE state = ? AND cooldown_step > 0 UNION ALL "
        "SELECT s.id, s.name, s.timezone, c.cooldown_until, c.cooldown_reason, c.cooldown_step, c.sender "
        "FROM sender_cooldowns c JOIN servers s ON s.id = c.server_id WHERE s.state = ? AND c.cooldown_step > 0 "
        "ORDER BY 2, 7",
        ServerState.ACTIVE, ServerState.ACTIVE,
    )  # fmt: skip
    for id_, name, zone, until, reason, times, sender in rows:
        until = int(until or 0)
        when = f"tried again at {shown_at(until, zone, now)}" if until > now else "a mail is being tried"
        values: dict[str, str | int] = {"server": name, "id": int(id_), "n": int(times), "reason": reason or ""}
        if sender is None:
            what = f"in trouble {times} times in a row ({reason}), {when}"
            yield _alert(f"server:{id_}", f"server {name}", what, "bin/mailcrew servers list", "server", values=values)
        else:
            what = f"refuses mails from {sender} ({reason}), {when}"
            values["sender"] = sender
            remedy = "bin/mailcrew senders list"
            yield _alert(f"server:{id_}:{sender}", f"server {name}", what, remedy, "server_sender", values=values)


def _paused(db: Db) -> Iterator[Alert]:
    rows = db.rows(
        "SELECT id, name, reason FROM campaigns WHERE status = ? AND reason IS NOT NULL ORDER BY id",
        CampaignStatus.PAUSED,
    )
    for id_, name, reason in rows:
        what = f"paused by itself: {reason}"
        yield _campaign("campaign_paused", id_, name, what, f"bin/check-campaign {id_}", reason=reason)


def _failed(db: Db, now: int) -> Iterator[Alert]:
    rows = db.rows(
        "SELECT id, name, reason FROM campaigns WHERE status = ? AND finished_at >= ? ORDER BY id",
        CampaignStatus.FAILED, now - DAY_MS,
    )  # fmt: skip
    for id_, name, reason in rows:
        yield _campaign("campaign_failed", id_, name, f"failed: {reason}", f"bin/check-campaign {id_}", reason=reason)


def _late(db: Db, now: int) -> Iterator[Alert]:
    rows = db.rows(
        "SELECT id, name, scheduled_at FROM campaigns WHERE status = ? AND scheduled_at < ? ORDER BY id",
        CampaignStatus.SCHEDULED, now - LATE_START_MS,
    )  # fmt: skip
    for id_, name, at in rows:
        minutes = (now - int(at)) // 60_000
        what = f"should have begun {minutes:,} minutes ago: no tick comes, or nobody works on it"
        remedy = "bin/supervisor-manager logs scheduler --errors"
        yield _campaign("campaign_late", id_, name, what, remedy, Severity.CRITICAL, n=minutes)


def _expansions(db: Db) -> Iterator[Alert]:
    rows = db.rows(
        "SELECT c.id, c.name, e.error, e.failures FROM expansions e JOIN campaigns c ON c.id = e.campaign_id "
        "WHERE e.state = ? AND e.error IS NOT NULL ORDER BY c.id",
        ExpansionState.RUNNING,
    )
    for id_, name, error, failures in rows:
        what = f"its lists cannot be read ({failures} tries in a row): {error}"
        remedy = "bin/supervisor-manager logs expand --errors"
        yield _campaign("expansion", id_, name, what, remedy, n=int(failures), reason=error)


def _blocked(db: Db, now: int) -> Iterator[Alert]:
    rows = db.rows(
        "SELECT id, name, envelope_sender, held_until, held_by FROM campaigns WHERE status = ? "
        "ORDER BY id DESC LIMIT ?",
        CampaignStatus.SENDING, MOST_CAMPAIGNS,
    )  # fmt: skip
    for id_, name, sender, held_until, held_by in rows:
        # Not read through the model: this may be another connection than the models have.
        campaign = Campaign(id=id_, name=name, envelope_sender=sender, held_until=held_until, held_by=held_by)
        reason = blocked_by(db, campaign, None, now)
        if reason and not _USUAL.match(reason):
            what = f"stands still: {reason}"
            yield _campaign("campaign_blocked", id_, name, what, f"bin/check-campaign {id_}", reason=reason)


def _unknown(db: Db) -> Iterator[Alert]:
    decidable = (CampaignStatus.SENT, CampaignStatus.SENDING, CampaignStatus.PAUSED)
    rows = db.rows(
        "SELECT c.id, c.name, u.count FROM (SELECT campaign_id, SUM(unknown) AS count FROM batches "
        f"WHERE unknown > 0 GROUP BY campaign_id) u {db.in_this_order} campaigns c ON c.id = u.campaign_id "
        "WHERE c.status IN (?, ?, ?) ORDER BY c.id",
        *decidable,
    )
    for id_, name, count in rows:
        what = f"nobody knows whether {int(count):,} mails arrived"
        remedy = f"bin/check-campaign {id_}"
        yield _campaign("unknown", id_, name, what, remedy, n=int(count))


def _schedules(db: Db, now: int) -> Iterator[Alert]:
    late = int(
        db.value(
            "SELECT COUNT(*) FROM (SELECT 1 FROM user_monitor_schedules WHERE enabled = 1 AND next_run_at <= ? "
            "AND locked_by IS NULL LIMIT ?) late",
            now - LATE_MS, MOST_COUNTED,
        )
    )  # fmt: skip
    if late:
        count = f"{late:,}" if late < MOST_COUNTED else f"more than {MOST_COUNTED - 1:,}"
        what = f"{count} users are due for {LATE_MS // 60_000} minutes and more, and nobody has taken them"
        remedy = "bin/supervisor-manager logs scheduler --errors"
        yield _alert("schedules", "schedules", what, remedy, "schedules", values={"n": late})


def _hosts(db: Db, now: int) -> Iterator[Alert]:
    for one in hosts_at_work(db):
        if one.host != host_name() and now - one.lease_until > SILENT_HOST_MS:
            what = f"has {one.mails:,} mails in hand and has not been heard of since its leases ran out"
            values: dict[str, str | int] = {"host": one.host, "n": one.mails}
            remedy = f"bin/mailcrew hosts gone {one.host}, if it never comes back"
            yield _alert(f"host:{one.host}", f"host {one.host}", what, remedy, "host", values=values)


def _campaign(
    kind: Kind, id_: int, name: str, what: str, remedy: str, severity: Severity = Severity.WARNING,
    **values: str | int | None,
) -> Alert:  # fmt: skip
    told: dict[str, str | int] = {key: value if value is not None else "" for key, value in values.items()}
    return _alert(
        f"{kind}:{id_}", f"campaign {id_} {name!r}", what, remedy, kind, severity,
        {"campaign": name, "id": int(id_), **told},
    )  # fmt: skip

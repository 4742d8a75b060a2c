"""A database as it looks after a busy year: made inside the database, by the statement."""

from __future__ import annotations

import re
from dataclasses import dataclass

from app.campaigns.delivery_hours import roll_up
from app.db import Db
from app.models.states import CampaignStatus
from bench import common
from bench.common import Place, numbers, tell

#: Recipients by campaign: a huge one, some large ones, and small ones for the rest of a million.
HUGE, LARGE, LARGES = 500_000, 50_000, 5
CAMPAIGNS, PEOPLE, SERVERS, LISTS = 500, 1_000_000, 10, 10
#: The last of the campaigns are not begun yet.
NOT_BEGUN = 65
SMALLS = CAMPAIGNS - NOT_BEGUN - LARGES - 1
SMALL = (1_000_000 - HUGE - LARGES * LARGE) // SMALLS
#: Small ones that are being sent or paused, beside the huge one and two large ones.
SENDING, PAUSED = 25, 5
MINUTE_MS = 60_000
DAY_MINUTES = 1440
DAYS = 31
QUEUES = ("periodic", "mail", "expand", "send", "monitor")
USERS = 10_000
#: As long as newsletters are.
HTML = "<p>Dear {{ name }}, this is our news.</p>" * 700


@dataclass(frozen=True)
class Seeded:
    """What addresses of pages may name."""

    campaigns: tuple[int, ...]
    users: tuple[int, ...]
    targets: tuple[int, ...]
    subscribers: tuple[int, ...]
    alarms: tuple[int, ...]


SEEDED = Seeded(
    campaigns=(1, 2, 7, 40, 400, 480), users=(1, 2, 3, 5000), targets=(1, 2, 3, 5000),
    subscribers=(1, 7, 500_001, 999_999), alarms=(1, 700, 1990),
)  # fmt: skip


def seed(place: Place) -> None:
    """Fill an empty, migrated database with what SEEDED names, and more."""
    db, now = place.db, place.db.now_ms()
    for name, fill in (
        ("people", _people), ("campaigns", _campaigns), ("recipients", _recipients), ("deliveries", _deliveries),
        ("history", _history), ("users", _users), ("targets", _targets), ("alarms", _alarms),
    ):  # fmt: skip
        tell(f"{place.database}: seeding {name}")
        fill(db, now)


def said(db: Db, text: str) -> str:
    """SQL of a text with terms of `n` in braces: "person{n}@example.org"."""
    parts = [part for part in re.split(r"(\{[^}]*\})", text) if part]
    pieces = [f"({part[1:-1]})" if part.startswith("{") else f"'{part}'" for part in parts]
    return f"CONCAT({', '.join(pieces)})" if db.dialect == "mysql" else " || ".join(pieces)


def insert(db: Db, table: str, count: int, **columns: object) -> None:
    """So many rows of a table; each column is SQL in `n`, counting from 1."""
    with db.transaction():
        db.run(
            f"INSERT INTO {table} ({', '.join(columns)}) "
            f"SELECT {', '.join(str(value) for value in columns.values())} FROM ({numbers(count)}) AS given"
        )


def _people(db: Db, now: int) -> None:
    common.add_people(db, PEOPLE)
    with db.transaction():
        db.run(
            "UPDATE subscribers SET status = 'bounced', status_reason = 'bounced: 550 5.1.1', bounces = 3 "
            "WHERE id % 97 = 0"
        )
    insert(db, "lists", LISTS, name=said(db, "list {n}"), created_at=1)
    common.add_members(db, 1, 1, PEOPLE, PEOPLE)
    for number in range(2, LISTS + 1):
        common.add_members(db, number, number * 40_000, 50_000, PEOPLE)
    insert(
        db, "suppressions", 50_000, kind="'address'", value=said(db, "gone{n}@example.net"), reason="'asked for it'",
        created_at=f"{now} - n * 1000",
    )  # fmt: skip
    insert(
        db, "imports", 200, list_id=f"1 + n % {LISTS}", file_name=said(db, "people{n}.csv"), stored=said(db, "{n}"),
        place="''", size="1000000", who="'administrator'", state="'done'", rows_read="20000", created="20000",
        created_at=f"{now} - n * 3600000", updated_at=f"{now} - n * 3600000", finished_at=f"{now} - n * 3600000",
    )  # fmt: skip


def _campaigns(db: Db, now: int) -> None:
    insert(
        db, "servers", SERVERS, name=said(db, "server-{n}"), host="'127.0.0.1'", port="2500 + n", tls="'none'",
        per_second="10 * n", per_minute="500 * n", per_day="1000000", created_at=1,
        cooldown_until=f"CASE n WHEN 3 THEN {now + 3_600_000} END", cooldown_reason="CASE n WHEN 3 THEN '421 busy' END",
    )  # fmt: skip
    begun = CAMPAIGNS - NOT_BEGUN
    status = (
        f"CASE WHEN n <= 3 THEN 'sending' WHEN n <= {LARGES + 1} THEN 'sent' "
        f"WHEN n <= {LARGES + 1 + SENDING} THEN 'sending' "
        f"WHEN n <= {LARGES + 1 + SENDING + PAUSED} THEN 'paused' WHEN n <= {begun} THEN 'sent' "
        f"WHEN n <= {begun + 20} THEN 'cancelled' WHEN n <= {begun + 30} THEN 'scheduled' ELSE 'draft' END"
    )
    at = f"{now} - ({CAMPAIGNS} - n) * 3600000"
    insert(
        db, "campaigns", CAMPAIGNS, name=said(db, "News of week {n}"), status=status, subject=said(db, "Week {n}"),
        sender="'Shop <news@example.org>'", envelope_sender="'news@example.org'", html=f"'{HTML}'",
        text="'Dear {{ name }}'", message_key=said(db, "{1000000000000000 + n}"), created_at=at,
        scheduled_at=f"CASE WHEN n <= {begun + 30} THEN {at} END",
        started_at=f"CASE WHEN n <= {begun} THEN {now} - 43200000 END",
        finished_at=f"CASE WHEN {status} = '{CampaignStatus.SENT}' THEN {now} - 3600000 END",
    )  # fmt: skip
    insert(db, "campaign_lists", CAMPAIGNS, campaign_id="n", position="0", list_id=f"1 + n % {LISTS}")
    insert(
        db, "campaign_servers", CAMPAIGNS * SERVERS, campaign_id=f"1 + (n - 1) {db.div} {SERVERS}",
        server_id=f"1 + (n - 1) % {SERVERS}",
    )  # fmt: skip
    insert(db, "expansions", begun, campaign_id="n", state="'done'", updated_at=now)


def _recipients(db: Db, now: int) -> None:
    first_small = LARGES + 2
    _group(db, now, HUGE, "1", "n", f"n > {HUGE * 4 // 5}")
    place = f"1 + (n - 1) % {LARGE}"
    _group(db, now, LARGES * LARGE, f"2 + (n - 1) {db.div} {LARGE}", place, f"n <= {2 * LARGE} AND n % 10 = 0")
    campaign = f"{first_small} + (n - 1) {db.div} {SMALL}"
    pending = f"n <= {(SENDING + PAUSED) * SMALL} AND n % 3 = 0"
    _group(db, now, SMALLS * SMALL, campaign, f"1 + (n - 1) % {SMALL}", pending)
    with db.transaction():
        db.run(
            "INSERT INTO batches (campaign_id, number, state, ready_at, pending, sent, failed, skipped, unknown, "
            "finished_at, leased_count) SELECT campaign_id, batch, "
            "CASE WHEN SUM(state = 'pending') > 0 THEN 'ready' ELSE 'done' END, "
            "CASE WHEN batch % 5 = 0 THEN ? ELSE 0 END, SUM(state = 'pending'), SUM(state = 'sent'), "
            "SUM(state = 'failed'), SUM(state = 'skipped'), SUM(state = 'unknown'), "
            "CASE WHEN SUM(state = 'pending') > 0 THEN NULL ELSE MAX(tried_at) END, 1 "
            "FROM recipients GROUP BY campaign_id, batch",
            now + 3_600_000,
        )
        db.run(
            "UPDATE batches SET state = 'leased', token = 'elsewhere', journal = 'h~1~1.journal', lease_until = ? "
            "WHERE state = 'ready' AND campaign_id < 4 AND number % 40 = 0",
            now + 86_400_000,
        )


def _group(db: Db, now: int, count: int, campaign: str, place: str, pending: str) -> None:
    """Recipients of some campaigns; `place`: which one of its campaign it is."""
    state = (
        f"CASE WHEN {pending} THEN 'pending' WHEN n % 1000 < 20 THEN 'failed' WHEN n % 1000 < 28 THEN 'skipped' "
        "WHEN n % 1000 = 28 THEN 'unknown' ELSE 'sent' END"
    )
    refused = said(db, "550 5.1.1 <person{n}@example.org>: no such user; id=x{n * 7}q")
    insert(
        db, "recipients", count, campaign_id=campaign, subscriber_id=f"{place} + ({campaign}) * 101",
        batch=f"1 + ({place} - 1) {db.div} 100", state=state,
        attempts=f"CASE WHEN {pending} OR n % 1000 BETWEEN 20 AND 27 THEN 0 ELSE 1 END",
        server_id=f"CASE WHEN {pending} THEN NULL ELSE 1 + n % {SERVERS} END",
        reason=f"CASE WHEN {pending} THEN NULL WHEN n % 1000 < 20 THEN {refused} "
        f"WHEN n % 1000 < 28 THEN 'asked for it' "
        f"WHEN n % 1000 = 28 THEN 'the line was lost' ELSE {said(db, '250 2.0.0 Ok: queued as {n}')} END",
        tried_at=f"CASE WHEN {pending} THEN NULL ELSE {now} - 3600000 - n % 1000000 END",
    )  # fmt: skip


def _deliveries(db: Db, now: int) -> None:
    """Every minute of a month at every server; the last half day is the huge campaign's. The tick has been there."""
    minutes = DAYS * DAY_MINUTES
    begin, place = now // MINUTE_MS - minutes, f"(n - 1) {db.div} {SERVERS}"
    small = f"{LARGES + 2} + {place} * {SMALLS} {db.div} {minutes}"
    insert(
        db, "deliveries", minutes * SERVERS, server_id=f"1 + (n - 1) % {SERVERS}", minute=f"{begin} + {place}",
        campaign_id=f"CASE WHEN {place} >= {minutes - 720} THEN 1 ELSE {small} END",
        attempts="45", sent="41", failed="2", deferred="1", unknown="1",
    )  # fmt: skip
    while roll_up(db, now):
        pass


def _history(db: Db, now: int) -> None:
    queue = " ".join(f"WHEN {number} THEN '{name}'" for number, name in enumerate(QUEUES))
    insert(
        db, "scaling_decisions", 30 * DAY_MINUTES * len(QUEUES),
        at=f"{now} - 2592000000 + n * {MINUTE_MS // len(QUEUES)}", host="'h'",
        queue=f"CASE n % {len(QUEUES)} {queue} END", workers="2 + n % 9", target=f"2 + (n + n {db.div} 50) % 9",
        backlog="n % 5000", in_flight="n % 40", oldest_seconds="n % 90", rate="n % 700", reason="'backlog 7, 1 wanted'",
    )  # fmt: skip
    insert(
        db, "audit", 100_000, at=f"{now} - n * 60000", who=said(db, "token {n % 20}"), action="'campaign.pause'",
        subject=said(db, "/campaigns/{n % 500}"), detail="'303'", address="'192.0.2.1'",
    )  # fmt: skip
    insert(
        db, "notices", 10_000, kind="'mail'", target="'ops@example.org'", subject=said(db, "Notice {n}"), body="'text'",
        state="CASE WHEN n % 500 = 0 THEN 'failed' WHEN n % 400 = 0 THEN 'waiting' ELSE 'sent' END",
        next_at=f"{now} - n * 1000", created_at=f"{now} - n * 1000",
    )  # fmt: skip


def _users(db: Db, now: int) -> None:
    email = said(db, "user{n}@example.org")
    insert(db, "users", USERS, email=email, email_key=email, name=said(db, "User {n}"), created_at=1)
    insert(
        db, "user_monitor_schedules", USERS, user_id="n", enabled="CASE WHEN n % 40 = 0 THEN 0 ELSE 1 END",
        interval_minutes="1 + n % 60", next_run_at=f"{now} - 30000 + (n * 6007) % ((1 + n % 60) * 60000)",
        last_run_at=f"{now} - 60000", last_duration_ms="500",
        last_status="CASE WHEN n % 50 = 0 THEN 'failed' WHEN n % 90 = 0 THEN 'error' ELSE 'ok' END", runs="n",
    )  # fmt: skip
    insert(
        db, "schedule_runs", USERS * 30, user_id=f"1 + n % {USERS}", period=f"{now} - n * 100", duration_ms="500",
        started_at=f"{now} - n * 100", status="'ok'", checks="3",
    )  # fmt: skip


def _targets(db: Db, now: int) -> None:
    """One of each user, some of the first ones; results of a week for those of the first hundred."""
    columns = {
        "kind": "'http'", "url": said(db, "https://site{n}.example.org/"), "redirects": "5", "timeout_seconds": "10",
        "confirmations": "2", "state": "CASE WHEN n % 50 = 0 THEN 'down' ELSE 'up' END", "last_at": f"{now} - 60000",
        "last_ok": "1", "last_status_code": "200", "last_latency_ms": "90 + n % 70", "created_at": "1",
        "tidied_at": f"{now}",
    }  # fmt: skip
    insert(db, "targets", USERS, user_id="n", name=said(db, "site {n}"), **columns)
    insert(db, "targets", 600, user_id="1 + n % 30", name=said(db, "other {n}"), **columns)
    insert(
        db, "check_results", 100 * 2016, target_id=f"1 + (n - 1) {db.div} 2016",
        at=f"{now} - ((n - 1) % 2016) * 300000",
        ok="CASE WHEN n % 300 = 0 THEN 0 ELSE 1 END", latency_ms="80 + n % 90", status_code="200",
    )  # fmt: skip
    today = now // 86_400_000
    insert(
        db, "check_days", 100 * 90, target_id=f"1 + (n - 1) {db.div} 90", day=f"{today} - (n - 1) % 90", checks="288",
        failures="CASE WHEN n % 7 = 0 THEN 3 ELSE 0 END", latency_sum="288 * 90", latency_max="400",
    )  # fmt: skip
    insert(
        db, "target_outages", 100 * 20, target_id=f"1 + (n - 1) {db.div} 20",
        began_at=f"{now} - (1 + (n - 1) % 20) * 86400000",
        ended_at=f"{now} - (1 + (n - 1) % 20) * 86400000 + 60000", reason="'no answer within 10 s'",
    )  # fmt: skip


def _alarms(db: Db, now: int) -> None:
    """The last ten of two thousand are open; ten events of each."""
    opened = f"{now} - (2001 - n) * 600000"
    insert(
        db, "alarms", 2000, place="''", alarm_key=said(db, "server:{n}"), kind="'server_blocked'", source="'campaigns'",
        severity="'warning'", subject=said(db, "server-{n % 10}"), what="'cools down'", remedy="'look at it'",
        details="'{}'", opened_at=opened, closed_at=f"CASE WHEN n > 1990 THEN 0 ELSE {opened} + 60000 END",
    )  # fmt: skip
    insert(
        db, "alarm_events", 20_000, alarm_id=f"1 + (n - 1) {db.div} 10", at=f"{now} - n * 1000", kind="'told'",
        who="'ops@example.org'", detail="''",
    )  # fmt: skip

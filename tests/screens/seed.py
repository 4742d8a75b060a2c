"""A home that looks lived in: what was done by commands just now, and what is written as if it were older."""

from __future__ import annotations

import math
import random
import socket
from pathlib import Path

import dramatiq

from app.cli.sample import write_sample
from app.db import Db, connect
from app.db.connection import Row
from app.models import tables
from app.queues.broker import make_broker
from tests.console_stack import ConsoleStack, Receiver
from tests.working import eventually

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
PEOPLE = 6000
HTML = Path("examples/quickstart/mail.html")
TEXT = Path("examples/quickstart/mail.txt")
#: What is checked: name, address and usual latency in ms.
SITES = (
    ("Shop", "https://shop.example.com/", 180), ("Checkout", "https://pay.example.com/health", 240),
    ("Blog", "https://blog.example.com/", 420),
)  # fmt: skip


def seed(stack: ConsoleStack, fast: Receiver, slow: Receiver) -> None:
    """Campaigns in every state, the last of which is being sent slowly."""
    settings = stack.settings
    db = connect(settings.database_url)
    tables.bind(db)
    try:
        _servers(stack, fast, slow)
        _people(stack, settings.home / "sample")
        _ended(stack, db)
        _rules(stack)
        _watched(db)
        _past(db)
        _dead(stack)
        # Somebody stopped it for a look, and forgot it: the page of workers has something to tell.
        stack.run("supervisor-manager", "stop", "monitor")
        _open(stack, db)
    finally:
        db.close()


def _servers(stack: ConsoleStack, fast: Receiver, slow: Receiver) -> None:
    limits = ("--per-minute", "6000", "--per-hour", "60000", "--per-day", "400000")
    _mailcrew(stack, "servers", "add", "frankfurt", "--host", fast.host, "--port", str(fast.port), *limits)
    _mailcrew(
        stack, "servers", "add", "singapore", "--host", slow.host, "--port", str(slow.port), "--per-minute", "900"
    )
    _mailcrew(stack, "servers", "add", "reserve", "--host", "127.0.0.1", "--port", "9", "--tls", "starttls")
    _mailcrew(stack, "servers", "change", "reserve", "--pause")


def _people(stack: ConsoleStack, directory: Path) -> None:
    sample = write_sample(directory, PEOPLE)
    with sample.second.open("a") as file:
        file.writelines(f"gone{number}@example.net,Gone {number},Lyon,free,\n" for number in range(40))
        file.writelines(f"full{number}@example.net,Full {number},Lyon,free,\n" for number in range(15))
        file.write("lost1@example.net,Lost 1,Lyon,free,\nlost2@example.net,Lost 2,Lyon,free,\n")
    for path, name in ((sample.first, "Newsletter"), (sample.second, "Customers")):
        _mailcrew(stack, "lists", "import", str(path), "--list", name)


def _campaign(stack: ConsoleStack, name: str, subject: str, *lists: str, server: str = "frankfurt") -> int:
    words = [word for one in lists for word in ("--list", one)]
    made = stack.json(
        "mailcrew", "campaigns", "create", name, "--subject", subject, "--from", "Example Shop <news@shop.example>",
        *words, "--server", server, "--html", str(HTML), "--text", str(TEXT),
    )  # fmt: skip
    return int(made["id"])


def _ended(stack: ConsoleStack, db: Db) -> None:
    """One that went over well but for some refusals, one that was cancelled, one that waits for its day."""
    catalogue = _campaign(stack, "Autumn catalogue", "The autumn catalogue is here", "Customers")
    stack.run("mailcrew", "campaigns", "schedule", str(catalogue))
    stack.tick()
    eventually(lambda: stack.json("check-campaign", str(catalogue))["status"] == "sent", "it is sent", 240)
    _as_if_earlier(db, catalogue)
    _mailcrew(stack, "servers", "cool", "--clear", "frankfurt")
    survey = _campaign(stack, "Survey 2026", "{{ name | default('Hello') }}, two minutes for us?", "Newsletter")
    stack.run("mailcrew", "campaigns", "cancel", str(survey))
    winter = _campaign(stack, "Winter sale", "Winter sale: 30 % off", "Newsletter", "Customers")
    stack.run("mailcrew", "campaigns", "schedule", str(winter), "--at", "2090-01-02T09:00:00+01:00")


def _as_if_earlier(db: Db, campaign: int) -> None:
    """Seven minutes of sending, more than an hour ago."""
    back = 75 * MINUTE
    db.run(
        "UPDATE campaigns SET created_at = created_at - ?, scheduled_at = scheduled_at - ?, "
        "started_at = started_at - ?, finished_at = finished_at - ? WHERE id = ?",
        back + DAY, back, back, back - 7 * MINUTE, campaign,
    )  # fmt: skip
    (minute, *sums), *rest = db.rows(
        "SELECT minute, attempts, sent, failed, deferred, unknown FROM deliveries WHERE campaign_id = ?", campaign
    )
    whole = [sum(values) for values in zip(sums, *(row[1:] for row in rest), strict=True)]
    db.run("DELETE FROM deliveries WHERE campaign_id = ?", campaign)
    parts = [[value // 7 + (at < value % 7) for value in whole] for at in range(7)]
    db.run_many(
        "INSERT INTO deliveries (server_id, minute, campaign_id, attempts, sent, failed, deferred, unknown)",
        [(1, minute - 75 + at, campaign, *part) for at, part in enumerate(parts)],
    )
    db.run("UPDATE recipients SET tried_at = tried_at - ? WHERE campaign_id = ?", back, campaign)


def _dead(stack: ConsoleStack) -> None:
    """Notices that nobody took, and checks that broke."""
    before = dramatiq.broker.global_broker
    broker = make_broker(stack.settings.redis_url)
    try:
        for queue, actor, why in (
            ("mail", "send_notices", "ConnectionRefusedError: [Errno 111] Connection refused"),
            ("mail", "send_notices", "TimeoutError: hooks.example.com did not answer within 10 s"),
            ("monitor", "monitor", "MemoryError"),
        ):
            message: dramatiq.Message[None] = dramatiq.Message(queue, actor, (), {}, {"traceback": why, "retries": 4})
            broker.enqueue(message)
            fetched = dramatiq.Message.decode(broker.do_fetch(queue, 1)[0])
            broker.do_nack(queue, fetched.options["redis_message_id"])
    finally:
        broker.client.close()
        dramatiq.broker.global_broker = before


def _open(stack: ConsoleStack, db: Db) -> None:
    subject = "{{ name | default('Hello') }}: what is new in {{ city | default('your town') }}"
    spring = _campaign(stack, "Spring news", subject, "Newsletter", "Customers", server="singapore")
    stack.run("mailcrew", "campaigns", "schedule", str(spring))
    stack.tick()
    _campaign(stack, "Birthday voucher", "A voucher for you, {{ name | default('friend') }}", "Customers")
    eventually(lambda: stack.json("check-campaign", str(spring))["sent"] > 200, "it is under way", 240)


def _rules(stack: ConsoleStack) -> None:
    for rule, why in (
        ("ceo@rival.example", "asked by telephone"), ("postmaster@example.org", "role address"),
        ("@trap.example", "spam trap"), ("@closed.example", "the company is gone"),
    ):  # fmt: skip
        _mailcrew(stack, "suppress", "add", rule, "--reason", why)
    _mailcrew(stack, "domains", "use-defaults")


def _watched(db: Db) -> None:
    """Users whose checks run, with 90 days behind them."""
    now, chance = db.now_ms(), random.Random(7)
    emails = ["ann@example.com", *(f"team{number}@example.com" for number in range(2, 15))]
    db.run_many("INSERT INTO users (id, email, email_key, created_at)", [(i, e, e, 1) for i, e in enumerate(emails, 1)])
    schedules: list[Row] = [
        # Due when the pictures have long been made: the sites have names that nobody can look up.
        (i, 1, 60, now + chance.randrange(40, 58) * MINUTE, now - 3 * MINUTE, "failed" if i == 4 else "ok",
         "1 of 3 targets down" if i == 4 else None, chance.randrange(300, 2000), 900)
        for i in range(1, len(emails) + 1)
    ]  # fmt: skip
    db.run_many(
        "INSERT INTO user_monitor_schedules (user_id, enabled, interval_minutes, next_run_at, last_run_at, "
        "last_status, last_error, last_duration_ms, runs)", schedules,
    )  # fmt: skip
    for number, (name, url, latency) in enumerate(SITES, 1):
        _site(db, number, name, url, latency, now, chance)


def _site(db: Db, number: int, name: str, url: str, latency: int, now: int, chance: random.Random) -> None:
    columns = (
        "id, user_id, name, kind, url, expect_status, redirects, timeout_seconds, confirmations, state, last_at, "
        "last_ok, last_status_code, last_latency_ms, last_resolve_ms, last_connect_ms, last_tls_ms, "
        "last_first_byte_ms, certificate_until, created_at, tidied_at"
    )
    row = (
        number, 1, name, "http", url, "200-399", 5, 10, 2, "up", now - MINUTE, 1, 200, latency, 4, 18, 42,
        latency - 30, now + 61 * DAY, now - 90 * DAY, now,
    )  # fmt: skip
    db.run_many(f"INSERT INTO targets ({columns})", [row])
    today = now // DAY
    days = [
        (number, today - back, 288, chance.choice([0] * 12 + [2, 9, 40]), latency * 288, latency * 3)
        for back in range(90)
    ]
    db.run_many("INSERT INTO check_days (target_id, day, checks, failures, latency_sum, latency_max)", days)
    results = [
        (
            number,
            now - back * 5 * MINUTE,
            1,
            round(latency * (1 + 0.25 * math.sin(back / 40)) + chance.randrange(40)),
            200,
        )
        for back in range(1, 600)
    ]
    db.run_many("INSERT INTO check_results (target_id, at, ok, latency_ms, status_code)", results)
    outage = (number, now - (3 + number) * DAY, now - (3 + number) * DAY + 20 * MINUTE, "503 Service Unavailable")
    db.run_many("INSERT INTO target_outages (target_id, began_at, ended_at, reason)", [outage])


def _past(db: Db) -> None:
    """An hour of mails, and what the manager decided meanwhile."""
    now, chance = db.now_ms(), random.Random(11)
    minutes = [
        (back, round(900 * math.sin(math.pi * (58 - back) / 52) + chance.randrange(120))) for back in range(6, 58)
    ]
    db.run_many(
        "INSERT INTO deliveries (server_id, minute, campaign_id, attempts, sent, failed, deferred)",
        [(1, now // MINUTE - back, 0, sent + 12, sent, sent // 60, 4) for back, sent in minutes],
    )
    rows, workers, host = [], 2, socket.gethostname()
    for back, sent in reversed(minutes):
        target = max(2, min(20, round(sent / 90)))
        if target != workers:
            backlog = sent * 55
            reason = f"backlog {backlog}, {target} wanted at 2000 a worker"
            rows.append((now - back * MINUTE, host, "send", workers, target, backlog, sent / 60, reason))
            workers = target
    db.run_many("INSERT INTO scaling_decisions (at, host, queue, workers, target, backlog, rate, reason)", rows)


def _mailcrew(stack: ConsoleStack, *words: str) -> None:
    stack.run("mailcrew", *words)

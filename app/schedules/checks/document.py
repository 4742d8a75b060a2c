"""What scripts read of a target. Instants in ISO 8601, UTC."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TypedDict, overload

from app.db import Db
from app.mail.url import parse_url
from app.schedules.checks.history import latencies, outages, recent, uptime
from app.schedules.checks.recording import DAY_MS
from app.schedules.checks.store import Last, Target


class LastDocument(TypedDict):
    """The last check. `latency_ms` is all of it; of several redirects the steps are sums."""

    at: str
    ok: bool
    error: str | None
    status_code: int | None
    latency_ms: int
    resolve_ms: int | None
    connect_ms: int | None
    tls_ms: int | None
    first_byte_ms: int | None


class TargetDocument(TypedDict):
    """A target and how it stands: `since` when in this `state`, `failures` in a row. `webhook` without its path."""

    id: int
    user_id: int
    kind: str
    name: str
    url: str | None
    host: str | None
    port: int | None
    expect_status: str | None
    keyword: str | None
    not_keyword: str | None
    redirects: int
    timeout_seconds: int
    confirmations: int
    webhook: str | None
    enabled: bool
    state: str
    since: str | None
    failures: int
    certificate_until: str | None
    created_at: str
    last: LastDocument | None


class DayDocument(TypedDict):
    """A day (UTC). `uptime` is the part of its checks that was good, null without any."""

    day: str
    checks: int
    failures: int
    uptime: float | None
    latency_ms: float | None
    slowest_ms: int | None


class PointDocument(TypedDict):
    """The checks of a stretch of time that begins at `at`; latencies of the good ones, null without any."""

    at: str
    checks: int
    failures: int
    latency_ms: float | None
    slowest_ms: int | None


class OutageDocument(TypedDict):
    """From the first failure to the first success; `ended_at` null: it goes on."""

    began_at: str
    ended_at: str | None
    reason: str


class ResultDocument(TypedDict):
    """One check."""

    at: str
    ok: bool
    latency_ms: int
    status_code: int | None
    error: str | None


class HistoryDocument(TypedDict):
    """Each day, the oldest first; latencies of these days to plot; the last outages and results, the newest first."""

    days: list[DayDocument]
    latencies: list[PointDocument]
    outages: list[OutageDocument]
    results: list[ResultDocument]


def target_document(target: Target) -> TargetDocument:
    wanted, standing = target.wanted, target.standing
    return {
        "id": target.id,
        "user_id": target.user_id,
        "kind": wanted.kind,
        "name": wanted.name,
        "url": wanted.url,
        "host": wanted.host,
        "port": wanted.port,
        "expect_status": wanted.expect_status,
        "keyword": wanted.keyword,
        "not_keyword": wanted.not_keyword,
        "redirects": wanted.redirects,
        "timeout_seconds": wanted.timeout_seconds,
        "confirmations": wanted.confirmations,
        # The path is the secret of many webhooks.
        "webhook": parse_url(wanted.webhook).origin + "/…" if wanted.webhook else None,
        "enabled": wanted.enabled,
        "state": standing.state.value,
        "since": _iso(standing.changed_at),
        "failures": standing.failures,
        "certificate_until": _iso(target.certificate_until),
        "created_at": _iso(target.created_at),
        "last": _last(target.last) if target.last else None,
    }


def history_document(db: Db, target_id: int, days: int, now: int) -> HistoryDocument:
    """What has become of a target in the last `days` days."""
    since = (now // DAY_MS - days + 1) * DAY_MS
    return {
        "days": [
            {
                "day": day.day.isoformat(), "checks": day.checks, "failures": day.failures, "uptime": day.uptime,
                "latency_ms": day.latency_ms, "slowest_ms": day.slowest_ms,
            }
            for day in uptime(db, target_id, days, now=now)
        ],
        "latencies": [
            {
                "at": _iso(point.at), "checks": point.checks, "failures": point.failures,
                "latency_ms": point.latency_ms, "slowest_ms": point.slowest_ms,
            }
            for point in latencies(db, target_id, since, now=now)
        ],
        "outages": [
            {"began_at": _iso(one.began_at), "ended_at": _iso(one.ended_at), "reason": one.reason}
            for one in outages(db, target_id)
        ],
        "results": [
            {
                "at": _iso(one.at), "ok": one.ok, "latency_ms": one.latency_ms, "status_code": one.status_code,
                "error": one.error,
            }
            for one in recent(db, target_id)
        ],
    }  # fmt: skip


def _last(last: Last) -> LastDocument:
    return {**asdict(last), "at": _iso(last.at)}  # type: ignore[typeddict-item]


@overload
def _iso(ms: int) -> str: ...
@overload
def _iso(ms: None) -> None: ...
@overload
def _iso(ms: int | None) -> str | None: ...
def _iso(ms: int | None) -> str | None:
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds")

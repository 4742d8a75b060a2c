"""One subscriber: what is known of them, where they are a member, and what became of them in every campaign."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from app.db import Db
from app.errors import NotFound
from app.mail.suppression import Listed, find_rule, rules_for
from app.models.states import BatchState, RecipientState


@dataclass(frozen=True)
class Membership:
    """`status`, and when it last changed (`since`, ms since 1970)."""

    list_id: int
    list: str
    status: str
    since: int


@dataclass(frozen=True)
class Person:
    """`status_reason`: why they are not mailed. `rule`: that of suppression that holds. Instants in ms since 1970."""

    id: int
    email: str
    name: str
    attributes: dict[str, Any]
    status: str
    status_reason: str | None
    bounces: int
    created_at: int
    updated_at: int
    memberships: list[Membership]
    rule: Listed | None


@dataclass(frozen=True)
class Event:
    """What became of somebody in a campaign. `state` as people see it; `tried_at` in ms since 1970."""

    campaign_id: int
    campaign: str
    status: str
    state: str
    reason: str | None
    attempts: int
    server: str | None
    tried_at: int | None


def person(db: Db, subscriber_id: int) -> Person:
    """Raises NotFound."""
    row = None
    if subscriber_id < 2**63:
        row = db.row(
            "SELECT id, email, name, attributes, status, status_reason, bounces, created_at, updated_at, email_key "
            "FROM subscribers WHERE id = ?",
            subscriber_id,
        )
    if row is None:
        raise NotFound(f"there is no subscriber {subscriber_id}")
    id_, email, name, attributes, status, reason, bounces, created_at, updated_at, key = row
    memberships = db.rows(
        "SELECT m.list_id, l.name, m.status, m.updated_at FROM memberships m JOIN lists l ON l.id = m.list_id "
        "WHERE m.subscriber_id = ? ORDER BY l.name",
        subscriber_id,
    )
    rule = rules_for(db, [str(key)]).get(str(key))
    return Person(
        id=int(id_), email=email, name=name, attributes=json.loads(attributes), status=status, status_reason=reason,
        bounces=int(bounces), created_at=int(created_at), updated_at=int(updated_at),
        memberships=[Membership(int(i), str(n), str(s), int(at)) for i, n, s, at in memberships],
        rule=find_rule(db, rule) if rule else None,
    )  # fmt: skip


def history(db: Db, subscriber_id: int, limit: int, before: int | None = None) -> list[Event]:
    """The campaigns that somebody was a recipient of, the newest first: those with an id below `before`.

    A look into each campaign by its key: there are some hundred of them, and an index by subscriber would cost the
    expansion of every one.
    """
    rows = db.rows(
        "SELECT c.id, c.name, c.status, r.state, r.reason, r.attempts, s.name, r.tried_at, b.state FROM campaigns c "
        "JOIN recipients r ON r.campaign_id = c.id AND r.subscriber_id = ? "
        "JOIN batches b ON b.campaign_id = r.campaign_id AND b.number = r.batch "
        "LEFT JOIN servers s ON s.id = r.server_id WHERE c.id < ? ORDER BY c.id DESC LIMIT ?",
        subscriber_id, before if before is not None else 2**63 - 1, limit,
    )  # fmt: skip
    return [
        Event(
            int(id_), name, status, _shown(state, batch), reason, int(attempts), server,
            int(tried_at) if tried_at is not None else None,
        )
        for id_, name, status, state, reason, attempts, server, tried_at, batch in rows
    ]  # fmt: skip


def _shown(state: str, batch: str) -> str:
    return "sending" if (state, batch) == (RecipientState.PENDING, BatchState.LEASED) else state

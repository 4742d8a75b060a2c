"""The SMTP servers: what each may send and has sent, why one waits; one of them over time; what is done to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flask import Response, request

from app.mail.limits.kinds import WINDOWS
from app.mail.senders import cooling_at
from app.mail.server_changes import clear_cooldown, pause_server, resume_server, users_of
from app.mail.server_traffic import Counts, counts_since
from app.mail.server_views import ServerView
from app.models.states import ServerState
from app.web.console.page import Page
from app.web.resources import resources
from app.web.series import step_of
from app.web.servers import AT_SERVER, named, one_seen, removed, seen, today, users

page = Page("servers", nav=("send", 40))

ONE = f"/servers{AT_SERVER}"
#: How far back a plot may go, in minutes, by what the address calls it.
SPANS = {"hour": 60, "day": 24 * 60, "week": 7 * 24 * 60, "month": 30 * 24 * 60}
MONTH_MS = 30 * 86_400_000
#: What reads a month of minutes is read this often at most, in seconds.
SELDOM_SECONDS = 30.0


@dataclass(frozen=True)
class Card:
    """A server as a page shows it. `condition`: in which of the ways it can or cannot send."""

    view: ServerView
    today: Counts
    campaigns: list[int]

    @property
    def condition(self) -> str:
        view = self.view
        if view.state == ServerState.PAUSED:
            return "paused"
        if view.cooldown_until is not None:
            return "cooling"
        if view.can_send:
            return "trial" if view.cooldown_step else "active"
        return "limited" if self.window else "uncounted"

    @property
    def window(self) -> str | None:
        """Which of its limits is used up."""
        first = (self.view.blocked_by or "").partition(" ")[0]
        return f"per_{first}" if first in WINDOWS and self.view.used is not None else None

    @property
    def bars(self) -> list[tuple[str, int | None, int]]:
        """Each limit that it has: its name, how much is used, how much may be."""
        view = self.view
        used = {**(view.used or {}), "connections": view.connections}
        limits = {**view.limits, "connections": view.max_connections}
        return [(name, used.get(name), limit) for name, limit in limits.items() if limit is not None]


@page.live("/servers")
def look() -> dict[str, Any]:
    return {"cards": [_card(view) for view in seen()]}


@page.live(ONE, template="server", query=("span",))
def one(server_id: int, span: str) -> dict[str, Any]:
    here = resources()
    now, chosen = here.db.now_ms(), span if span in SPANS else "hour"
    return {
        "card": _card(one_seen(server_id)),
        "now": now,
        "cooling": cooling_at(here.db, server_id),
        "campaigns": users_of(here.db, server_id),
        "month": here.shared("server's month", SELDOM_SECONDS).get(
            server_id, lambda: counts_since(here.db, server_id, now - MONTH_MS)
        ),
        "spans": SPANS,
        "span": chosen,
        "step_seconds": step_of(SPANS[chosen]) * 60,
    }


@page.post(f"{ONE}/pause")
def pause(server_id: int) -> Response:
    name = named(server_id)
    pause_server(resources().db, name)
    return _back(server_id, "servers.was_paused", name)


@page.post(f"{ONE}/resume")
def resume(server_id: int) -> Response:
    name = named(server_id)
    resume_server(resources().db, name)
    return _back(server_id, "servers.was_resumed", name)


@page.post(f"{ONE}/cool")
def cool(server_id: int) -> Response:
    name = named(server_id)
    clear_cooldown(resources().db, name)
    return _back(server_id, "servers.was_cooled", name)


@page.post(f"{ONE}/remove")
def remove(server_id: int) -> Response:
    name = named(server_id)
    left = removed(server_id)
    return page.done("/servers", "servers.was_removed", name=name, n=len(left))


def _card(view: ServerView) -> Card:
    return Card(view, today().get(view.id, Counts()), users().get(view.id, []))


def _back(server_id: int, word: str, name: str) -> Response:
    """To the page where the button was."""
    path = "/servers" if request.form.get("back") == "all" else f"/servers/{server_id}"
    return page.done(path, word, name=name)

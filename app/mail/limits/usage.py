"""How much of a server's limits is used by what the database says, where Redis has counted nothing."""

from __future__ import annotations

from app.mail.limits.days import day_starts
from app.mail.limits.history import History
from app.mail.limits.kinds import WINDOWS, Request, Usage

MINUTE = 60_000
LENGTH = {"minute": MINUTE, "hour": 60 * MINUTE}


def usage_by_database(history: History, request: Request, now: int) -> Usage:
    """At `now` (ms). A minute counts until all of it is out of the window; of the last second nothing is known."""
    _, start, end, _ = day_starts(request.limits.timezone, now)
    rows = history.attempts(request.server_id, min(start, now - LENGTH["hour"]) // MINUTE - 1)
    since = {name: now - length for name, length in LENGTH.items()} | {"day": start}
    used = dict.fromkeys(WINDOWS, 0)
    blocks = []
    for name, limit in request.limits:
        counted = [(minute, count) for minute, count in rows if name in since and (minute + 1) * MINUTE > since[name]]
        used[name] = over = sum(count for _, count in counted)
        if limit is not None and over >= limit:
            free_at = end
            for minute, count in counted if name in LENGTH else ():
                over -= count
                if over < limit:
                    free_at = (minute + 1) * MINUTE + LENGTH[name]
                    break
            blocks.append((free_at, f"{name} limit of server {request.name}"))
    free, reason = max(blocks, default=(None, None))
    return Usage(used, not blocks, reason, free)

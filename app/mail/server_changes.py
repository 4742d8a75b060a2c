"""Change, pause, resume and remove an SMTP server; end its cool-down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import redis

from app.db import Db
from app.errors import LimitsUnavailable, NotFound, Refused
from app.events import emit
from app.mail.limits import History, Limiter
from app.mail.server_fields import LIMITS, check_fields
from app.mail.servers import release_holds
from app.models.states import CAMPAIGN_ENDED, ServerState
from app.models.tables import Server

#: After a change of one of these, what went wrong before says nothing any more.
REACHING = frozenset({"host", "port", "tls", "tls_ca", "username", "password_env"})
CHANGEABLE = REACHING | {
    "per_second", "per_minute", "per_hour", "per_day", "max_connections", "weight", "timezone",
}  # fmt: skip
WELL = "cooldown_until = NULL, cooldown_reason = NULL, cooldown_step = 0, trial_until = NULL"


@dataclass(frozen=True)
class User:
    """A campaign that is not over and uses a server; `others`: how many servers it has beside that one."""

    campaign_id: int
    name: str
    status: str
    others: int


@dataclass(frozen=True)
class Changed:
    """`released`: so many campaigns that waited for the server go on. `fields`: what is different now.

    `first_limits`: it had none before, so that nothing of what it sent is counted (`Limiter.forget`).
    """

    server_id: int
    fields: list[str] = field(default_factory=list)
    released: int = 0
    first_limits: bool = False


def find_server(name: str) -> Server:
    """The server of this name; raises NotFound. Removed ones are not found."""
    found: Server | None = Server.get_or_none((Server.name == name) & (Server.state != ServerState.REMOVED))
    if found is None:
        raise NotFound(f"there is no server {name!r}; see bin/mailcrew servers list")
    return found


def server_by_id(server_id: int) -> Server:
    """The server of this id; raises NotFound. Removed ones are not found."""
    chosen = (Server.id == server_id) & (Server.state != ServerState.REMOVED)
    found: Server | None = Server.get_or_none(chosen) if server_id < 2**63 else None
    if found is None:
        raise NotFound(f"there is no server {server_id}")
    return found


def change_server(db: Db, name: str, changes: Mapping[str, Any]) -> Changed:
    """Change fields by the names of their columns; None takes a limit, the user or the authority away.

    Campaigns that waited for the server look again at once. Raises NotFound or UsageError, and changes nothing then.
    """
    server = find_server(name)
    assert set(changes) <= CHANGEABLE
    before = {key: getattr(server, key) for key in CHANGEABLE}
    check_fields({**before, **changes, "name": name})
    different = sorted(key for key, value in changes.items() if value != before[key])
    if not different:
        return Changed(server.id)
    sets = [f"{key} = ?" for key in different] + ([WELL] if REACHING & set(different) else [])
    with db.transaction():
        db.run(
            f"UPDATE servers SET {', '.join(sets)} WHERE id = ?", *(changes[key] for key in different), server.id
        )  # fmt: skip
        released = release_holds(db, server_id=server.id)
    emit("server changed", server=name, fields=different)
    first = not any(before[limit] for limit in LIMITS) and any(changes.get(limit) for limit in LIMITS)
    return Changed(server.id, different, released, first)


def count_from_the_start(db: Db, client: redis.Redis, server_id: int) -> bool:
    """Have counted what a server sent while it had no limits; False when Redis does not answer.

    For one with `Changed.first_limits`; without it what it has sent so far may not be counted.
    """
    try:
        Limiter(client, History(db)).forget(server_id)
    except LimitsUnavailable:
        return False
    return True


def pause_server(db: Db, name: str) -> bool:
    """Have no further mail sent over a server; False when it was paused. Raises NotFound.

    What is with it at this moment is answered; campaigns go on over their other servers.
    """
    return _move(db, name, ServerState.ACTIVE, ServerState.PAUSED)


def resume_server(db: Db, name: str) -> bool:
    """Let a paused server go on, whatever trouble it was in; False when it was not paused. Raises NotFound."""
    return _move(db, name, ServerState.PAUSED, ServerState.ACTIVE)


def clear_cooldown(db: Db, name: str) -> bool:
    """Have a server, and every sender at it, tried again at once; False when none was in trouble. Raises NotFound."""
    server = find_server(name)
    with db.transaction():
        cleared = db.run(f"UPDATE servers SET {WELL} WHERE id = ? AND cooldown_step > 0", server.id)
        cleared += db.run("DELETE FROM sender_cooldowns WHERE server_id = ?", server.id)
        if cleared:
            release_holds(db, server_id=server.id)
    if cleared:
        emit("cool-down ended by hand", server=name)
    return cleared > 0


def remove_server(db: Db, name: str) -> list[User]:
    """Take a server away; the campaigns that go on over their other servers. What went over it keeps its name.

    Raises NotFound; Refused when an open campaign has no other server.
    """
    server = find_server(name)
    with db.transaction():
        users = users_of(db, server.id)
        stranded = [user for user in users if not user.others]
        if stranded:
            which = ", ".join(f"{user.campaign_id} {user.name!r} ({user.status})" for user in stranded)
            raise Refused(
                f"server {name} is the only one of campaign {which}: wait until they are over or cancel them; "
                f"meanwhile bin/mailcrew servers change {name} --pause stops it"
            )
        removed = db.run(
            f"UPDATE servers SET state = ?, {WELL} WHERE id = ? AND state <> ?",
            ServerState.REMOVED, server.id, ServerState.REMOVED,
        )  # fmt: skip
        if not removed:
            raise NotFound(f"server {name!r} has just been removed")
        release_holds(db, server_id=server.id)
    emit("server removed", server=name)
    return users


def users_of(db: Db, server_id: int) -> list[User]:
    """The campaigns that use a server and are not over."""
    rows = db.rows(
        "SELECT c.id, c.name, c.status, (SELECT COUNT(*) FROM campaign_servers o JOIN servers s ON s.id = o.server_id "
        "WHERE o.campaign_id = c.id AND o.server_id <> u.server_id AND s.state <> ?) "
        "FROM campaign_servers u JOIN campaigns c ON c.id = u.campaign_id "
        f"WHERE u.server_id = ? AND c.status NOT IN ({', '.join('?' * len(CAMPAIGN_ENDED))}) ORDER BY c.id",
        ServerState.REMOVED, server_id, *sorted(CAMPAIGN_ENDED),
    )  # fmt: skip
    return [User(int(id_), name, status, int(others)) for id_, name, status, others in rows]


def _move(db: Db, name: str, source: ServerState, target: ServerState) -> bool:
    server = find_server(name)
    well = f", {WELL}" if target is ServerState.ACTIVE else ""
    with db.transaction():
        moved = db.run(
            f"UPDATE servers SET state = ?{well} WHERE id = ? AND state = ?", target, server.id, source
        )  # fmt: skip
        if moved:
            release_holds(db, server_id=server.id)
    if moved:
        emit("server paused" if target is ServerState.PAUSED else "server resumed", server=name)
    return moved == 1

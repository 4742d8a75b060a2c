"""The SMTP servers: adding them, those of a campaign, letting campaigns go on that waited for one."""

from __future__ import annotations

from dataclasses import dataclass

from peewee import IntegrityError

from app.config import variable
from app.db import Db
from app.errors import Refused
from app.mail.cooldown import Spot, Trouble
from app.mail.limits import Limits
from app.mail.server_fields import check_fields
from app.mail.transport import ServerAddress
from app.mail.when import system_zone
from app.models.states import CampaignStatus, ServerState
from app.models.tables import Server


@dataclass(frozen=True, slots=True)
class Usable:
    """An active server of a campaign, as the database told it.

    `of_sender`: the trouble of the campaign's sender there. `unset`: the variable of its password, if it has no value.
    """

    id: int
    name: str
    address: ServerAddress
    weight: int
    limits: Limits
    max_connections: int | None
    sender: str
    trouble: Trouble
    of_sender: Trouble
    unset: str | None

    @property
    def spots(self) -> tuple[tuple[Spot, Trouble], tuple[Spot, Trouble]]:
        """Where it may be in trouble, with what was known of it: the server, its sender there."""
        return (
            (Spot(self.id, self.name), self.trouble),
            (Spot(self.id, self.name, self.sender), self.of_sender),
        )


def add_server(*, name: str, host: str, port: int, tls: str, now: int, **options: object) -> int:
    """Add a server; its id. `options`: further columns, without `timezone` in this machine's zone.

    Raises UsageError for a bad value, Refused when the name is taken.
    """
    fields = {"name": name, "host": host, "port": port, "tls": tls, "timezone": system_zone(), **options}
    check_fields(fields)
    # The name of a removed one is free again; what went over that shows which of the two it was.
    for removed in Server.select().where((Server.name == name) & (Server.state == ServerState.REMOVED)):
        Server.update(name=f"{name[:70]} (removed, {removed.id})").where(Server.id == removed.id).execute()
    try:
        return int(Server.create(created_at=now, **fields).id)
    except IntegrityError as error:
        raise Refused(f"there is a server called {name!r} already; see bin/mailcrew servers list") from error


def servers_of(db: Db, campaign_id: int, sender: str) -> list[Usable]:
    """The active servers of a campaign; `sender` is its envelope sender in lower case."""
    rows = db.rows(
        "SELECT s.id, s.name, s.host, s.port, s.tls, s.tls_ca, s.username, s.password_env, s.weight, "
        "s.per_second, s.per_minute, s.per_hour, s.per_day, s.timezone, s.max_connections, "
        "s.cooldown_step, s.cooldown_until, s.cooldown_reason, s.trial_until, "
        "d.cooldown_step, d.cooldown_until, d.cooldown_reason, d.trial_until "
        "FROM campaign_servers c JOIN servers s ON s.id = c.server_id "
        "LEFT JOIN sender_cooldowns d ON d.server_id = s.id AND d.sender = ? "
        "WHERE c.campaign_id = ? AND s.state = 'active' ORDER BY s.id",
        sender, campaign_id,
    )  # fmt: skip
    found = []
    for id_, name, host, port, tls, tls_ca, username, password_env, weight, *rest in rows:
        second, minute, hour, day, timezone, max_connections, *troubles = rest
        password = variable(password_env) if password_env else None
        found.append(
            Usable(
                id_, name, ServerAddress(host, port, tls, tls_ca, username, password), weight,
                Limits(second, minute, hour, day, timezone), max_connections,
                sender, _trouble(*troubles[:4]), _trouble(*troubles[4:]),
                password_env if password_env and not password else None,
            )
        )  # fmt: skip
    return found


def release_holds(db: Db, server_id: int | None = None, sender: str | None = None) -> int:
    """Let campaigns go on that wait for a server or a sender, because something has changed there; how many.

    `server_id`: those that may use this server. `sender`: those from this address, which were away and so lose their
    place in the fair sharing. None of the two: all.
    """
    which: list[str] = ["status = ?"]
    values: list[str | int] = [CampaignStatus.SENDING]
    lost = ""
    if sender is not None:
        which.append("LOWER(envelope_sender) = LOWER(?)")
        values.append(sender)
        lost = ", queued = 0"
    else:
        which.append("held_until > 0")
    if server_id is not None:
        which.append("id IN (SELECT campaign_id FROM campaign_servers WHERE server_id = ?)")
        values.append(server_id)
    return db.run(f"UPDATE campaigns SET held_until = 0, held_by = NULL{lost} WHERE {' AND '.join(which)}", *values)


def _trouble(step: int | None, until: int | None, reason: str | None, trial_until: int | None) -> Trouble:
    return Trouble(step or 0, until or 0, reason or "", trial_until or 0)

"""What a worker says at its start about the work that waits for it: campaigns and servers by name."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence

from actors.database import database
from app.campaigns.boosts import campaign_of
from app.db import Db
from app.events import emit, warn
from app.models.states import CampaignStatus

LONGEST = 20


def tell_what_is_served(queues: Sequence[str]) -> None:
    """Log it from a thread of its own: a database that is away or slow holds up no start."""
    threading.Thread(target=_tell, args=(list(queues),), name="start-log", daemon=True).start()


def _tell(queues: list[str]) -> None:
    try:
        db = database()
        try:
            campaigns, servers = _campaigns(db, queues), _servers(db)
        finally:
            db.close()
    except Exception as error:  # away, busy, not migrated: the work itself will tell, here it is only for reading
        warn("campaigns and servers are not known yet: the database is in trouble", reason=str(error))
        return
    emit("Serving", pid=os.getpid(), queues=queues, campaigns=named(campaigns), servers=named(servers))


def _campaigns(db: Db, queues: list[str]) -> list[str]:
    found = db.rows("SELECT id, name FROM campaigns WHERE status = ? ORDER BY id", CampaignStatus.SENDING)
    own = None if {"send", "expand"} & set(queues) else {campaign_of(queue) for queue in queues}
    return [name for campaign_id, name in found if own is None or campaign_id in own]


def _servers(db: Db) -> list[str]:
    return [name for (name,) in db.rows("SELECT name FROM servers WHERE state <> 'removed' ORDER BY name")]


def named(names: Sequence[str]) -> str:
    """Up to 20 names, and how many more there are."""
    more = f" and {len(names) - LONGEST} more" if len(names) > LONGEST else ""
    return (", ".join(names[:LONGEST]) or "none") + more

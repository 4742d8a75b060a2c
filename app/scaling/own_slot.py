"""How a worker in a slot of a boost leaves for good: supervisord stops it, or it would start it again."""

from __future__ import annotations

import os
from collections.abc import Mapping

from app.config import Settings
from app.scaling.groups import connected
from app.scaling.table import SLOT_NAME

# supervisord puts it into the environment of what it starts.
GROUP = "SUPERVISOR_GROUP_NAME"


def leave_own_slot(settings: Settings, environ: Mapping[str, str] = os.environ) -> bool:
    """Have supervisord stop the group that this process is; False when it is no slot of a campaign.

    It comes back as a SIGTERM. Raises Unavailable when supervisord does not answer.
    """
    slot = SLOT_NAME.fullmatch(environ.get(GROUP, ""))
    if slot is None or slot["campaign"] is None:
        return False
    with connected(settings) as client:
        client.stop_group(slot[0])
    return True

"""What `check-campaign` and `monitor-campaign` look with."""

from __future__ import annotations

from app.campaigns.look import Look, look_at
from app.config import Settings
from app.db import Db
from app.queues.broker import make_broker


class Watcher:
    """Looks at one campaign again and again."""

    def __init__(self, settings: Settings, db: Db, campaign_id: int) -> None:
        self._db = db
        self._id = campaign_id
        self._broker = make_broker(settings.redis_url)

    def look(self) -> Look:
        """One look; raises NotFound."""
        return look_at(self._db, self._broker.client, self._id)

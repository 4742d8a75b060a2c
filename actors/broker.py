"""The broker, set before any actor is declared: without it Dramatiq silently makes one of its own."""

from __future__ import annotations

from app.config import settings
from app.queues.broker import make_broker

broker = make_broker(settings().redis_url)

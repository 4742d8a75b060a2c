"""What happens in the shop, told through Redis to whoever listens on the WebSocket."""

from __future__ import annotations

import json

from actors.broker import broker

CHANNEL = "giftshop:events"


def announce(event: str, **fields: object) -> None:
    """Tell it; nobody listening is fine."""
    broker.client.publish(CHANNEL, json.dumps({"event": event, **fields}, ensure_ascii=False))

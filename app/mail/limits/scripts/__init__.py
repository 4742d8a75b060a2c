"""The Lua scripts beside this file: each call is one atomic step on the counters, on Redis 6.2 and later."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import redis
from redis.commands.core import Script

#: Put before the scripts that count tokens.
_COMMON = {"reserve", "count", "appointment"}


def script(client: redis.Redis, name: str) -> Script:
    """A script, to be called with keys and args; what it answers is said at the top of its file."""
    return client.register_script(_text(name))


@cache
def _text(name: str) -> str:
    own = (Path(__file__).parent / f"{name}.lua").read_text(encoding="utf-8")
    return _text("counters") + own if name in _COMMON else own

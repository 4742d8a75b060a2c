"""The Lua scripts beside this file: each is one atomic step on Dramatiq's keys, on Redis 6.2 and later."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import redis


@cache
def _text(name: str) -> str:
    return (Path(__file__).parent / f"{name}.lua").read_text(encoding="utf-8")


def run_script(client: redis.Redis, name: str, keys: Sequence[str], args: Sequence[str | bytes | int] = ()) -> Any:
    """Run a script; what it answers is said at the top of its file."""
    return client.register_script(_text(name))(keys=keys, args=args)

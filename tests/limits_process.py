"""A sender of its own process that takes every token it can get: `python -m tests.limits_process URL FILE SEED`.

Begins when there is something to read on its standard input.
Writes the instants at which it used them (ns since boot) and the epochs of its blocks, and ends when the minute is
used up.
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path

import redis

from app.clock import since_boot
from app.mail.limits import Block, Limiter, Limits, Refusal
from tests.limiting import NoHistory

LIMITS = Limits(per_second=200, per_minute=1500)
SERVER = 1


def main(url: str, file: str, seed: str) -> None:
    limiter, chance = Limiter(redis.Redis.from_url(url), NoHistory()), random.Random(seed)
    used: list[int] = []
    epochs: set[str] = set()
    found: Block | Refusal
    while True:
        found = limiter.reserve(SERVER, "one", LIMITS, chance.randint(1, 40))
        while isinstance(found, Block) and found.left:
            assert found.grant
            epochs.add(found.grant.epoch)
            # One look at the clock says whether it may be used and when it was.
            now = since_boot()
            if now >= found.use_by:
                found = limiter.exchange(found, found.left)
                continue
            found.take()
            used.append(round(now * 1e9))
            if chance.random() < 0.2:
                time.sleep(chance.random() / 300)
            if chance.random() < 0.02:
                limiter.give_back(found)
        if isinstance(found, Refusal):
            if found.reason.startswith("minute"):
                break
            time.sleep(max(0.0, found.free_at / 1000 - time.time()))
    Path(file).write_text(json.dumps({"used": used, "epochs": sorted(epochs)}))


if __name__ == "__main__":
    main(*sys.argv[1:])

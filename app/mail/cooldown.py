"""Leave a server, or one sender at it, alone while it is in trouble, and find out with one mail whether it is over.

Trouble cools down for a minute, then two, four … up to an hour, give or take a fifth. When the time is over nobody
simply goes on: one worker wins the trial (a conditional UPDATE) and sends one mail. If that goes well, all is as
before; if not, the next time is twice as long. Of many workers that meet the same trouble at once only one makes the
time longer: the UPDATE's condition is the step that each of them had seen.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from peewee import IntegrityError

from app.db import Db
from app.events import emit, warn


@dataclass(frozen=True, slots=True)
class Timing:
    """Times in ms. `trial_ms`: how long one trial keeps others from trying too, should its worker die."""

    first_ms: int = 60_000
    longest_ms: int = 3_600_000
    jitter: float = 0.2
    trial_ms: int = 60_000

    def length(self, step: int) -> int:
        """How long trouble number `step` (from 0) cools down, in ms."""
        whole = min(self.longest_ms, self.first_ms * 2 ** min(step, 32))
        return int(whole * random.uniform(1 - self.jitter, 1 + self.jitter))  # noqa: S311 (chance, no secret)


TIMING = Timing()


@dataclass(frozen=True, slots=True)
class Trouble:
    """The trouble of a server or of a sender at it, as the database told it. Instants in ms.

    `step`: how often in a row it has cooled down, 0: it is well. `trial_until`: somebody tries it until then.
    """

    step: int = 0
    until: int = 0
    reason: str = ""
    trial_until: int = 0

    def free_at(self, now: int) -> int:
        """When it may be used or tried again; `now` or earlier: it may."""
        return self.until if self.until > now or not self.step else self.trial_until


@dataclass(frozen=True, slots=True)
class Spot:
    """Where trouble is: the server, or (`sender` not None) one envelope sender's mails at it."""

    server_id: int
    server: str
    sender: str | None = None

    def __str__(self) -> str:
        return f"server {self.server}" + (f", sender {self.sender}" if self.sender is not None else "")

    @property
    def _where(self) -> tuple[str, str, list[Any]]:
        """Table, condition and its values."""
        if self.sender is None:
            return "servers", "id = ?", [self.server_id]
        return "sender_cooldowns", "server_id = ? AND sender = ?", [self.server_id, self.sender]

    @property
    def _named(self) -> dict[str, Any]:
        return {"server": self.server} if self.sender is None else {"server": self.server, "sender": self.sender}

    def cool_down(self, db: Db, seen: Trouble, reason: str, now: int, timing: Timing | None = None) -> bool:
        """Leave it alone for a while; False when another worker was faster to say so."""
        length = (timing or TIMING).length(seen.step)
        table, which, keys = self._where
        values: list[Any] = [now + length, reason[:500], seen.step + 1]
        cooled = db.run(
            f"UPDATE {table} SET cooldown_until = ?, cooldown_reason = ?, cooldown_step = ?, trial_until = NULL "
            f"WHERE {which} AND cooldown_step = ?",
            *values, *keys, seen.step,
        )  # fmt: skip
        if not cooled and self.sender is not None and not seen.step:
            cooled = self._insert(db, values)
        if cooled:
            warn(
                "server in trouble",
                **self._named, reason=reason, seconds=round(length / 1000), times=seen.step + 1,
            )  # fmt: skip
        return cooled == 1

    def win_trial(self, db: Db, seen: Trouble, now: int, timing: Timing | None = None) -> bool:
        """Whether this worker is the one that sends the trial mail."""
        table, which, keys = self._where
        won = db.run(
            f"UPDATE {table} SET trial_until = ? WHERE {which} AND cooldown_step = ? AND cooldown_until <= ? "
            "AND (trial_until IS NULL OR trial_until <= ?)",
            now + (timing or TIMING).trial_ms, *keys, seen.step, now, now,
        )  # fmt: skip
        return won == 1

    def forgo_trial(self, db: Db, seen: Trouble) -> None:
        """Leave the trial that this worker won to another: no mail was tried."""
        table, which, keys = self._where
        db.run(f"UPDATE {table} SET trial_until = NULL WHERE {which} AND cooldown_step = ?", *keys, seen.step)

    def recover(self, db: Db, seen: Trouble) -> bool:
        """The trial mail went well: all is as before. False when it has cooled down again meanwhile."""
        table, which, keys = self._where
        change = (
            f"UPDATE {table} SET cooldown_until = NULL, cooldown_reason = NULL, cooldown_step = 0, trial_until = NULL"
            if self.sender is None
            else f"DELETE FROM {table}"
        )
        recovered = db.run(f"{change} WHERE {which} AND cooldown_step = ?", *keys, seen.step)
        if recovered:
            emit("server works again", **self._named)
        return recovered == 1

    def _insert(self, db: Db, values: list[Any]) -> int:
        try:
            return db.run(
                "INSERT INTO sender_cooldowns "
                "(cooldown_until, cooldown_reason, cooldown_step, server_id, sender) VALUES (?, ?, ?, ?, ?)",
                *values, self.server_id, self.sender,
            )  # fmt: skip
        except IntegrityError:
            return 0  # another worker was faster

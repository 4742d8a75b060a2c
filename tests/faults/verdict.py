"""Count a run at the SMTP server, compare with the database, and judge."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.faults.arena import Arena
    from tests.faults.matrix import Form, Row


@dataclass
class Result:
    """One line of the table. `wrong`: recipients or counters whose recorded state is not the truth.

    `resumed`: seconds from the last fault to the next accepted mail; `done`: to the campaign being sent.
    """

    row: str
    database: str
    recipients: int
    faults: int = 0
    kills: int = 0
    restarts: int = 0
    lost: int = 0
    duplicated: int = 0
    unknown: int = 0
    bound: int = 0
    wrong: int = 0
    violations: int = 0
    status: str = ""
    resumed: float | None = None
    done: float | None = None
    reason: str = ""
    #: The safeguard that was taken away.
    without: str = ""
    #: Cores that the run kept busy on average: all runs side by side must stay below what there is.
    cores: float = 0.0
    #: How many faults of each kind there were.
    kinds: dict[str, int] = field(default_factory=dict)
    #: How many recipients became unknown for each reason.
    doubts: dict[str, int] = field(default_factory=dict)

    @classmethod
    def skipped(cls, row: Row, form: Form, reason: str) -> Result:
        return cls(row.name, form.database, form.recipients, status="skipped", reason=reason)

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Result:
        """From what `fields` gave, and whatever was added to it."""
        return cls(**{name: value for name, value in stored.items() if name in cls.__dataclass_fields__})

    @property
    def verdict(self) -> str:
        if self.status == "skipped":
            return "skipped"
        right = self.lost == self.duplicated == self.wrong == self.violations == 0
        return "passed" if right and self.unknown <= self.bound and self.status == "sent" else "FAILED"

    def fields(self) -> dict[str, Any]:
        return {**asdict(self), "verdict": self.verdict}

    def line(self) -> str:
        """For people."""
        row = f"{self.row} without {self.without}" if self.without else self.row
        if self.status == "skipped":
            return f"{row:28} {self.database:7} skipped: {self.reason}"
        return (
            f"{row:28} {self.database:7} {self.verdict}: {self.status}, {self.faults} faults, {self.kills} kills, "
            f"lost {self.lost}, duplicated {self.duplicated}, unknown {self.unknown} (at most {self.bound}), "
            f"wrong {self.wrong}, next mail after {seconds(self.resumed)}, done after {seconds(self.done)}, "
            f"{self.cores:.2f} cores{'; ' + self.reason if self.reason else ''}"
        )


def seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} s"


def count(arena: Arena, ended: float) -> Result:
    """The truth is what the server accepted; the database is asked what it believes."""
    server, fleet = arena.server, arena.fleet
    result = Result(arena.row.name, arena.form.database, arena.form.recipients, status=arena.status())
    believed = {
        str(email): str(state)
        for email, state in arena.db.rows(
            "SELECT s.email, r.state FROM recipients r JOIN subscribers s ON s.id = r.subscriber_id "
            "WHERE r.campaign_id = ?",
            arena.campaign_id,
        )
    }
    accepted = dict(server.accepted)
    everyone = {str(email) for (email,) in arena.db.rows("SELECT email FROM subscribers")}
    unsent = everyone - accepted.keys()
    # Nobody has the mail, and nobody is told so: recorded as sent, still open, or never a recipient.
    result.lost = sum(believed.get(email, "pending") in ("sent", "pending") for email in unsent)
    result.duplicated = sum(times > 1 for times in accepted.values())
    states = list(believed.values())
    result.unknown = states.count("unknown")
    failed = {email for email, state in believed.items() if state == "failed"}
    result.wrong = len(failed - server.refused) + len(failed & accepted.keys()) + states.count("skipped")
    result.wrong += len(accepted.keys() - everyone) + _miscounted(arena, states)
    result.violations = len(server.violations) + len(arena.complaints)
    result.reason = "; ".join([*arena.complaints, *server.violations][:3])
    result.without, result.kinds = arena.without or "", dict(arena.kinds)
    result.doubts = dict(
        Counter(
            # Without the server's words, which differ from mail to mail.
            re.split("[;:]", str(reason))[0]
            for (reason,) in arena.db.rows(
                "SELECT reason FROM recipients WHERE campaign_id = ? AND state = 'unknown'", arena.campaign_id
            )
        )
    )
    result.faults, result.kills, result.restarts = arena.faults, fleet.killed, fleet.restarts
    result.bound = server.cut_after_dot + fleet.threads_killed
    if arena.last_fault:
        later = [at for at in list(server.accepted_at) if at > arena.last_fault]
        result.resumed = round(min(later) - arena.last_fault, 1) if later else None
        result.done = round(ended - arena.last_fault, 1) if result.status == "sent" else None
    return result


def _miscounted(arena: Arena, states: list[str]) -> int:
    """How far the counters of the batches are from the rows."""
    names = ("pending", "sent", "failed", "skipped", "unknown")
    totals = arena.db.row(
        f"SELECT {', '.join(f'COALESCE(SUM({name}), 0)' for name in names)} FROM batches WHERE campaign_id = ?",
        arena.campaign_id,
    )
    assert totals is not None
    return sum(abs(int(total) - states.count(name)) for name, total in zip(names, totals, strict=True))

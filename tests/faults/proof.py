"""Which row shows what each safeguard is for: without it, that row must fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.faults.verdict import Result


@dataclass(frozen=True)
class Proof:
    """`shows`: whether a run failed in the way that this safeguard prevents, and not in another."""

    row: str
    happens: str
    shows: Callable[[Result], bool]
    recipients: int = 2000
    seconds: float = 12
    deadline: float = 60


def _twice(result: Result) -> bool:
    return result.duplicated > 0


def _miscounted(result: Result) -> bool:
    return result.status == "sent" and result.duplicated + result.lost + result.wrong > 0


def _never_sent(result: Result) -> bool:
    return result.status == "sending" and result.lost > 0


PROOFS: dict[str, Proof] = {
    "journal": Proof("kill9-workers", "mails that were sent count as untried and go out twice", _twice),
    "lock": Proof(
        "stop-at-gap:before-journal",
        "the batch of a stopped worker is given away; it wakes up and sends it too",
        _twice,
    ),
    "fence": Proof(
        "db-answers-lost",
        "an outcome written twice ends the lease of another worker: its mails go twice, or count as sent and never go",
        _miscounted,
    ),
    "sweep": Proof(
        "kill9-workers", "the batches of dead workers stay leased, and the campaign is never sent", _never_sent
    ),
}


def shows(without: str, result: Result) -> bool:
    """Whether a run without this safeguard failed as it must; with all safeguards there is nothing to show."""
    return not without or PROOFS[without].shows(result)

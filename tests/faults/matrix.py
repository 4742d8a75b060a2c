"""What a row of the matrix is, and the form in which it is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.smtp_faults import Event, Fault

if TYPE_CHECKING:
    from tests.faults.arena import Arena


class Skipped(Exception):
    """Raised when a row cannot be run here; the text says why."""


@dataclass(frozen=True)
class Form:
    """`seconds`: how long the server's pace makes the undisturbed sending last; `deadline` counts from the start."""

    database: str
    recipients: int = 20_000
    seconds: float = 60.0
    deadline: float = 300.0
    workers: int = 4
    connections: int = 16
    #: Seconds after which no more faults are made; None: half of the deadline.
    faults_for: float | None = None

    @property
    def is_short(self) -> bool:
        return self.recipients < 10_000


def _no_orders(_form: Form) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Row:
    """`harm` runs beside the campaign; `misdeed` is asked by the SMTP server; `orders` go to the workers.

    `schedulers`: real ones; the campaign is due at the next full minute then, and nobody else ticks.
    `supervised`: the stack as shipped under a real supervisord, with its own Redis and scheduler.
    `disk`: size of a disk of its own for the database (as mount takes it). Faults end when the share
    `calm_at` of the recipients has been answered, so that the recovery can be seen.
    """

    name: str
    says: str
    harm: Callable[[Arena], None] | None = None
    misdeed: Callable[[Event], Fault | None] | None = None
    orders: Callable[[Form], dict[str, Any]] = _no_orders
    prepare: Callable[[Arena], Callable[[], object]] | None = None
    databases: tuple[str, ...] = ("sqlite", "mysql")
    environ: Mapping[str, str] = field(default_factory=dict)
    expanders: int = 1
    tickers: int = 1
    servers: int = 1
    schedulers: int = 0
    supervised: bool = False
    disk: str = ""
    calm_at: float = 0.9

    @property
    def in_real_time(self) -> bool:
        """Whether real schedulers tick, at real minutes."""
        return self.supervised or self.schedulers > 0

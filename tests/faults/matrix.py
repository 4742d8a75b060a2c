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
    seconds: float = 18.0
    deadline: float = 150.0
    workers: int = 4
    connections: int = 16


def _no_orders(_form: Form) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Row:
    """`harm` runs beside the campaign; `misdeed` is asked by the SMTP server; `orders` go to the workers.

    `doubt_per_injection`: recipients that one injected fault may leave unknown, apart from killed workers.
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

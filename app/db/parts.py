"""Values as statements take them well: long lists of them in pieces, and where a range begins."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

# Past 1000 values MariaDB turns IN into a join with a temporary table (in_predicate_conversion_threshold).
VALUES_A_STATEMENT = 500

T = TypeVar("T")


def parts(items: Sequence[T], size: int = VALUES_A_STATEMENT) -> Iterator[Sequence[T]]:
    """The items in order, `size` at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def marks(values: Iterable[object]) -> str:
    """`?, ?, ?`: one for each value."""
    return ", ".join("?" for _ in values)


def lower_bound(low: str, after: str) -> tuple[str, str]:
    """The operator and the value of "from `low` on, and behind `after`": one condition.

    Of two lower bounds SQLite begins at the one that is written first, and reads all that lies before the other.
    """
    return (">", after) if after >= low else (">=", low)

"""Which HTTP statuses are as expected: `200-399`, `200,204`, `301`."""

from __future__ import annotations

import re

DEFAULT = "200-399"
LONGEST = 100

_PART = re.compile(r"([1-5]\d\d)(?:-([1-5]\d\d))?", re.ASCII)


def parse_statuses(text: str) -> list[range]:
    """The ranges that a text names; raises ValueError."""
    if len(text) > LONGEST:
        raise ValueError(f"it is longer than {LONGEST} characters")
    found = []
    for part in text.split(","):
        match = _PART.fullmatch(part.strip())
        if not match:
            raise ValueError(f"{part.strip()!r} is no status or range of statuses from 100 to 599")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ValueError(f"{part.strip()!r} ends before it begins")
        found.append(range(first, last + 1))
    return found


def is_expected(status: int, text: str) -> bool:
    return any(status in statuses for statuses in parse_statuses(text))

"""What the policy remembers, kept in a file over a restart of the manager."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from app.scaling.policy import Past


def read_past(path: Path) -> dict[str, Past]:
    """What the last manager remembered; nothing when there is none or it cannot be read."""
    try:
        stored = json.loads(path.read_text("utf-8"))
        return {queue: Past.from_json(past) for queue, past in stored.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def write_past(path: Path, past: Mapping[str, Past]) -> None:
    """Replace the file at once; raises OSError."""
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps({queue: one.as_json() for queue, one in past.items()}), "utf-8")
    beside.replace(path)

"""Counters that only grow. Each is written by the transaction whose doing it counts."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from app.db import Db


class Counted(StrEnum):
    """What is counted; the label tells its kinds apart."""

    LEASES_RECOVERED = "leases_recovered"
    #: By `recorded` and `unknown`: what the journal of a dead worker said of a mail.
    MAILS_RECOVERED = "mails_recovered"
    #: By queue and `up` or `down`, with a space between.
    SCALING_CHANGES = "scaling_changes"


def count(db: Db, counted: Counted, by: Mapping[str, int]) -> None:
    """Add to the counters of these labels; nothing is written for zeros.

    One statement, its rows in the order of the key: two that count the same never wait for each other crosswise.
    """
    rows = [(counted, label, value) for label, value in sorted(by.items()) if value]
    added = (
        "ON DUPLICATE KEY UPDATE value = value + VALUES(value)"
        if db.dialect == "mysql"
        else "ON CONFLICT (name, label) DO UPDATE SET value = value + excluded.value"
    )
    db.run_many("INSERT INTO counters (name, label, value)", rows, f" {added}")


def counted_so_far(db: Db) -> dict[Counted, dict[str, int]]:
    """Every counter by its label; what has never happened is not there."""
    found: dict[Counted, dict[str, int]] = {one: {} for one in Counted}
    for name, label, value in db.rows("SELECT name, label, value FROM counters"):
        if name in found:  # a newer version may count more
            found[Counted(name)][str(label)] = int(value)
    return found

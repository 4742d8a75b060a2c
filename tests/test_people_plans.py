"""No statement behind the pages of people reads a whole table of millions, but for the counts of lists."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from app.campaigns.preview import reader
from app.config import Settings
from app.db import Db
from app.lists.history import history, person
from app.lists.jobs import imports, something_to_import, take_next
from app.lists.rules import search_rules
from app.lists.search import members, search
from app.lists.sizes import one_list
from app.lists.suppressing import is_any_opening
from tests.test_query_plans import Ledger, filled, ledger

__all__ = ["filled", "ledger"]


def find(db: Db, settings: Settings) -> None:
    after = None
    for text in ("", "p1", "person 1", "12", "zzz", "ünal"):
        for _ in range(3):
            after = search(db, text, limit=5, after=after).after
            if after is None:
                break
        after = None


def look(db: Db, settings: Settings) -> None:
    somebody = int(db.value("SELECT MIN(id) FROM subscribers")) + 900
    assert person(db, somebody).memberships
    assert history(db, somebody, 10)
    history(db, somebody, 10, before=4)


def on_lists(db: Db, settings: Settings) -> None:
    page = members(db, 1, "active", limit=5)
    members(db, 1, "active", limit=5, after=page.after)
    one_list(db, 1)
    for who in ("first", "random", "p100@example.test"):
        reader(db, [1, 2], who)


def import_jobs(db: Db, settings: Settings) -> None:
    assert not something_to_import(db, 1)
    assert take_next(db, settings, 1) is None
    imports(db, 10, 5, 1)


def rules(db: Db, settings: Settings) -> None:
    db.run_many(
        "INSERT INTO suppressions (kind, value, reason, created_at)",
        [(kind, f"p{n}@x.test" if kind == "address" else f"d{n}.test", "x", 1) for n in range(1500)
         for kind in ("address", "domain", "opening")],
    )  # fmt: skip
    db.run("ANALYZE") if db.dialect == "sqlite" else db.rows("ANALYZE TABLE suppressions")
    for text in ("", "p1", "@d1", "p1@x.test", "x@below.d7.test", "zzz"):
        after = None
        for _ in range(3):
            after = search_rules(db, text, limit=5, after=after).after
            if after is None:
                break
    assert is_any_opening(db)


@pytest.mark.parametrize("path", [find, look, on_lists, import_jobs, rules])
def test_no_statement_reads_a_large_table_from_end_to_end(
    db: Db, settings: Settings, ledger: Ledger, path: Callable[[Db, Settings], None]
) -> None:
    path(db, settings)
    assert len(ledger.seen) > 1
    assert ledger.scans() == []

"""No statement behind the pages of servers reads all that was ever sent, or every campaign there was."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from app.config import Settings
from app.db import Db
from app.mail.senders import cooling_at, senders
from app.mail.server_changes import users_of
from app.mail.server_traffic import counts_today, open_campaigns
from app.web.series import deliveries_of
from tests import test_query_plans
from tests.test_query_plans import Ledger, filled, ledger

__all__ = ["filled", "ledger"]

MINUTES = 3000


@pytest.fixture
def sent(db: Db, filled: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Two days of mails of two servers; the minute after the last."""
    monkeypatch.setattr(test_query_plans, "LARGE", (*test_query_plans.LARGE, "deliveries"))
    now = db.now_ms() // 60_000
    rows = [(server, now - ago, 1, 9, 9) for server in (1, 2) for ago in range(MINUTES)]
    db.run_many("INSERT INTO deliveries (server_id, minute, campaign_id, attempts, sent)", rows)
    if db.dialect == "sqlite":
        db.run("ANALYZE")
    else:
        db.rows("ANALYZE TABLE deliveries")
    return now + 1


def traffic(db: Db, end: int) -> None:
    now = db.now_ms()
    found = counts_today(db, [(1, "UTC"), (2, "Asia/Shanghai"), (3, "UTC")], now)
    assert 0 < found[1].attempts <= 9 * MINUTES
    assert found[3].attempts == 0
    assert sum(deliveries_of(db, end - 60, end, server=2)["series"]["sent"]) == 9 * 60


def who(db: Db, end: int) -> None:
    assert len(open_campaigns(db)[1]) == 1
    assert len(users_of(db, 1)) == 1
    cooling_at(db, 1)
    senders(db)


@pytest.mark.parametrize("path", [traffic, who])
def test_no_statement_reads_a_large_table_from_end_to_end(
    db: Db, settings: Settings, ledger: Ledger, sent: int, path: Callable[[Db, int], None]
) -> None:
    ledger.seen.clear()
    path(db, sent)
    assert len(ledger.seen) > 1
    assert ledger.scans() == []

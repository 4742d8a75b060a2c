"""What became of a campaign by recipient domain: counted beside the sending, once, right, and kept."""

from __future__ import annotations

from collections import Counter

import pytest
from flask import Flask

from app.campaigns import domain_shares
from app.campaigns.domain_shares import DomainCount, DomainShares
from app.campaigns.lifecycle import find_campaign
from app.campaigns.unknown import resend_unknown, settle_unknown
from app.config import Settings
from app.db import Db
from app.mail.servers import add_server
from app.web.application import create_app
from tests.console import logged_in
from tests.sending import NOW, add_list, draft, expand, start
from tests.statements import recorded
from tests.test_query_plans import Ledger
from tests.web import caller

CITY = '{"city": "Rome"}'
#: Whose address a person has: half at gmail.com, a fifth at outlook.com, the others each at an own domain.
DOMAINS = ["gmail.com"] * 5 + ["outlook.com"] * 2 + [""] * 3


def people(db: Db, count: int) -> list[int]:
    rows = [
        (i, f"p{i}@{DOMAINS[i % 10] or f'own{i}.test'}", f"p{i}@{DOMAINS[i % 10] or f'own{i}.test'}", "x", CITY, 1, 1)
        for i in range(1, count + 1)
    ]
    db.run_many("INSERT INTO subscribers (id, email, email_key, name, attributes, created_at, updated_at)", rows)
    return [row[0] for row in rows]


@pytest.fixture
def campaign(db: Db, settings: Settings) -> int:
    """One to a thousand people in ten batches, of which nothing has been sent."""
    add_server(name="relay", host="127.0.0.1", port=1, tls="none", now=NOW)
    add_list(db, "all", people(db, 1000))
    campaign_id = draft(db, ["all"])
    start(db, campaign_id)
    expand(db, settings, campaign_id)
    return campaign_id


def end(db: Db, campaign_id: int, *numbers: int, failing: str = "outlook.com", unknown: int = 0) -> None:
    """These batches are over: the mails to one domain failed, so many of the rest are unknown."""
    for number in numbers:
        db.run("UPDATE recipients SET state = 'sent' WHERE campaign_id = ? AND batch = ?", campaign_id, number)
        db.run(
            "UPDATE recipients SET state = 'failed' WHERE campaign_id = ? AND batch = ? AND subscriber_id IN "
            "(SELECT id FROM subscribers WHERE email_key LIKE ?)",
            campaign_id, number, f"%@{failing}",
        )  # fmt: skip
        rows = db.rows(
            "SELECT subscriber_id FROM recipients WHERE campaign_id = ? AND batch = ? AND state = 'sent' LIMIT ?",
            campaign_id, number, unknown,
        )  # fmt: skip
        for (id_,) in rows:
            db.run(
                "UPDATE recipients SET state = 'unknown' WHERE campaign_id = ? AND subscriber_id = ?", campaign_id, id_
            )
        db.run(
            "UPDATE batches SET state = 'done', pending = 0, sent = ?, failed = ?, unknown = ?, skipped = 0 "
            "WHERE campaign_id = ? AND number = ?",
            _of(db, campaign_id, number, "sent"), _of(db, campaign_id, number, "failed"),
            _of(db, campaign_id, number, "unknown"), campaign_id, number,
        )  # fmt: skip


def _of(db: Db, campaign_id: int, number: int, state: str) -> int:
    return int(
        db.value(
            "SELECT COUNT(*) FROM recipients WHERE campaign_id = ? AND batch = ? AND state = ?",
            campaign_id, number, state,
        )
    )  # fmt: skip


def truth(db: Db, campaign_id: int) -> Counter[tuple[str, str]]:
    """Of the batches that are over, by domain and state: from the rows."""
    found: Counter[tuple[str, str]] = Counter()
    for address, state in db.rows(
        "SELECT s.email_key, r.state FROM recipients r JOIN subscribers s ON s.id = r.subscriber_id "
        "JOIN batches b ON b.campaign_id = r.campaign_id AND b.number = r.batch "
        "WHERE r.campaign_id = ? AND b.state = 'done'",
        campaign_id,
    ):
        found[str(address).partition("@")[2], str(state)] += 1
    return found


def told(shares: DomainShares) -> Counter[tuple[str, str]]:
    return Counter(
        {
            (one.domain, state): getattr(one, state)
            for one in shares.domains
            for state in ("sent", "failed", "skipped", "unknown")
            if getattr(one, state)
        }
    )


def counted(db: Db, campaign_id: int) -> DomainShares:
    count = DomainCount(campaign_id)
    while not count.step(db, 60):
        pass
    return count.seen


def named(shares: DomainShares) -> dict[str, tuple[int, int]]:
    """Sent and failed of those with more than one recipient."""
    return {one.domain: (one.sent, one.failed) for one in shares.domains if one.recipients > 1}


def test_what_is_over_is_counted_by_domain(db: Db, campaign: int) -> None:
    end(db, campaign, 1, 2, 3)
    found = counted(db, campaign)
    assert named(found) == {"gmail.com": (150, 0), "outlook.com": (0, 60)}
    assert (found.counted, found.decided, found.is_complete) == (300, 300, True)
    assert found.others.recipients + sum(one.recipients for one in found.domains) == 300
    assert [one.recipients for one in found.domains] == sorted((one.recipients for one in found.domains), reverse=True)


def test_the_others_are_together_and_say_how_many_they_are(db: Db, campaign: int) -> None:
    end(db, campaign, *range(1, 11))
    found = counted(db, campaign)
    assert len(found.domains) == domain_shares.MOST_SHOWN
    assert found.others.domains == 302 - domain_shares.MOST_SHOWN
    assert found.others.recipients == 302 - domain_shares.MOST_SHOWN
    assert (found.others.sent, found.counted) == (302 - domain_shares.MOST_SHOWN, 1000)


def test_each_batch_is_read_once(db: Db, campaign: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(domain_shares, "MOST_SHOWN", 10_000)
    count = DomainCount(campaign)
    end(db, campaign, 1, 2)
    assert count.step(db, 60)
    asked = recorded(db, monkeypatch)
    assert count.step(db, 60)
    assert [one for one in asked if "recipients r" in one] == []
    end(db, campaign, 5, 3)
    del asked[:]
    assert count.step(db, 60)
    assert len([one for one in asked if "recipients r" in one]) == 1
    assert told(count.seen) == truth(db, campaign)


def test_what_is_left_when_the_time_is_over_is_counted_the_next_time(
    db: Db, campaign: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(domain_shares, "PAGE", 2)
    end(db, campaign, *range(1, 11))
    count = DomainCount(campaign)
    clock = iter(range(1000))
    monkeypatch.setattr("app.campaigns.domain_shares.time.monotonic", lambda: next(clock))
    assert count.step(db, 3.0) is False
    first = count.seen
    assert 0 < first.counted < first.decided == 1000
    assert first.is_complete is False
    while not count.step(db, 3.0):
        pass
    assert count.seen.counted == 1000
    assert named(count.seen) == {"gmail.com": (500, 0), "outlook.com": (0, 200)}


@pytest.mark.parametrize("decide", ["resend", "settle"])
def test_a_persons_decision_is_counted_anew(
    db: Db, campaign: int, decide: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(domain_shares, "MOST_SHOWN", 10_000)
    end(db, campaign, *range(1, 11), unknown=3)
    db.run("UPDATE campaigns SET status = 'sent'")
    count = DomainCount(campaign)
    assert count.step(db, 60)
    assert told(count.seen) == truth(db, campaign)
    before = sum(one.unknown for one in count.seen.domains)
    assert before == 30
    found = find_campaign(campaign)
    done = resend_unknown(db, found) if decide == "resend" else settle_unknown(db, found)
    assert done.decided == 30
    while not count.step(db, 60):
        pass
    assert told(count.seen) == truth(db, campaign)
    assert sum(one.unknown for one in count.seen.domains) == 0


def test_a_campaign_that_is_over_is_kept_and_not_counted_again(
    db: Db, campaign: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    end(db, campaign, *range(1, 11))
    db.run("UPDATE campaigns SET status = 'sent'")
    first = counted(db, campaign)
    asked = recorded(db, monkeypatch)
    other = DomainCount(campaign)
    assert other.step(db, 60)
    assert other.seen == first
    assert [one for one in asked if "recipients r" in one] == []
    settled = db.run("UPDATE batches SET sent = sent - 1, failed = failed + 1 WHERE number = 1")
    assert settled == 1
    again = DomainCount(campaign)
    assert again.step(db, 60) is False, "what is kept is not so any more, and neither are the rows"


def test_a_list_of_companies_does_not_fill_the_memory(db: Db, campaign: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(domain_shares, "MOST_DOMAINS", 40)
    end(db, campaign, *range(1, 11))
    count = DomainCount(campaign)
    monkeypatch.setattr(domain_shares, "PAGE", 1)
    assert count.step(db, 60)
    assert len(count._domains) <= 40
    assert named(count.seen) == {"gmail.com": (500, 0), "outlook.com": (0, 200)}
    assert count.seen.counted == 1000
    assert count.seen.others.domains + len(count.seen.domains) >= 302


def test_counting_reads_no_large_table_from_end_to_end(db: Db, campaign: int, monkeypatch: pytest.MonkeyPatch) -> None:
    add_list(db, "more", [])
    for number in range(30):
        db.run(
            "INSERT INTO batches (campaign_id, number, state, ready_at, pending, sent) "
            "SELECT ?, number, 'done', 0, 0, 100 FROM batches WHERE campaign_id = ?",
            100 + number, campaign,
        )  # fmt: skip
        db.run(
            "INSERT INTO recipients (campaign_id, subscriber_id, batch, state) "
            "SELECT ?, subscriber_id, batch, 'sent' FROM recipients WHERE campaign_id = ?",
            100 + number, campaign,
        )  # fmt: skip
    end(db, campaign, *range(1, 11))
    for table in ("batches", "recipients", "subscribers"):
        db.run(f"ANALYZE {table}" if db.dialect == "sqlite" else f"ANALYZE TABLE {table}")
    ledger = Ledger(db, monkeypatch)
    counted(db, campaign)
    assert ledger.scans() == []


# -- over HTTP and on the page ---------------------------------------------------------------------


@pytest.fixture
def app(db: Db, settings: Settings) -> Flask:
    return create_app(settings, db=db)


def test_the_api_tells_the_domains(app: Flask, db: Db, campaign: int) -> None:
    end(db, campaign, 1, 2)
    document = caller(app, "read").get(f"/api/campaigns/{campaign}/domains").get_json()
    assert document["complete"] is True
    assert document["domains"][0] == {
        "domain": "gmail.com", "sent": 100, "failed": 0, "skipped": 0, "unknown": 0, "domains": 1,
    }  # fmt: skip
    assert (document["counted"], document["decided"]) == (200, 200)
    assert caller(app).get("/api/campaigns/99/domains").status_code == 404


@pytest.mark.parametrize(("language", "title"), [("en", "By recipient domain"), ("zh", "各收件域名情况")])
def test_the_page_shows_the_domains(app: Flask, db: Db, campaign: int, language: str, title: str) -> None:
    end(db, campaign, *range(1, 11))
    visitor = logged_in(app)
    visitor.client.set_cookie("mailcrew_language", language)
    app.extensions["mailcrew"].domains.look(campaign, 20.0)
    page = visitor.get(f"/campaigns/{campaign}").text
    assert title in page
    assert "gmail.com" in page
    assert "200 · 100" in page, "all of outlook.com failed"
    assert page.count("<details") >= 1


def test_without_a_mail_there_is_no_table(app: Flask, db: Db, campaign: int) -> None:
    assert "By recipient domain" not in logged_in(app).get(f"/campaigns/{campaign}").text

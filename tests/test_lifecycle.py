"""Creating, scheduling and starting campaigns: everything that can be refused is, and a tick starts each once."""

from __future__ import annotations

import threading

import pytest

from app.campaigns.lifecycle import find_campaign, schedule_campaign, start_due
from app.db import Db
from app.errors import MailcrewError, NotFound, Refused, TemplateProblem, UsageError
from app.mail.servers import add_server
from app.models.tables import Campaign, CampaignList, CampaignServer, Expansion, List, Server
from tests.sending import NOW, add_list, add_people, draft


@pytest.fixture
def ready(db: Db) -> None:
    """A list with people, and two servers."""
    add_list(db, "news", add_people(db, 3))
    for name in ("one", "two"):
        add_server(name=name, host="127.0.0.1", port=25, tls="none", now=NOW)


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"name": "  "}, UsageError, "NAME"),
        ({"name": "x" * 201}, UsageError, "200"),
        ({"subject": " \t"}, UsageError, "--subject"),
        ({"sender": "nobody"}, UsageError, "not an email address"),
        ({"sender": "Shop <a@shop.test>\r\nBcc: all@shop.test"}, UsageError, "U+000D"),
        ({"sender": "Shop\nBcc: x@y.test <a@shop.test>"}, UsageError, "U+000A"),
        ({"weight": 0}, UsageError, "--weight=0"),
        ({"weight": 1001}, UsageError, "1 to 1000"),
        ({"lists": []}, UsageError, "--list"),
        ({"lists": ["news", "olds"]}, NotFound, "'olds'"),
        ({"servers": ["three"]}, NotFound, "'three'"),
        ({"html": None, "text": None}, TemplateProblem, "no body"),
        ({"html": "", "text": "  "}, TemplateProblem, "no body"),
        ({"html": "a\n\n{{ name"}, TemplateProblem, "html, line 3"),
        ({"text": "a\n{% if %}"}, TemplateProblem, "text, line 2"),
        ({"text": "{{ contry }}"}, TemplateProblem, "unknown field 'contry'"),
        ({"subject": "Hi {{ nmae }}"}, TemplateProblem, "subject, line 1: unknown field 'nmae'"),
    ],
)
def test_a_campaign_that_cannot_work_is_refused_and_nothing_is_stored(
    db: Db, ready: None, changes: dict[str, object], error: type[MailcrewError], said: str
) -> None:
    with pytest.raises(error) as refused:
        draft(db, **{"lists": ["news"], **changes})  # type: ignore[arg-type]
    assert said in str(refused.value)
    assert (Campaign.select().count(), CampaignList.select().count(), CampaignServer.select().count()) == (0, 0, 0)


def test_a_field_that_nobody_has_is_fine_with_a_default(db: Db, ready: None) -> None:
    assert draft(db, ["news"], text="{{ country | default('your country') }}")


def test_a_list_named_twice_counts_once_and_no_server_means_all(db: Db, ready: None) -> None:
    campaign_id = draft(db, ["news", "news"])
    assert CampaignList.select().where(CampaignList.campaign_id == campaign_id).count() == 1
    assert CampaignServer.select().where(CampaignServer.campaign_id == campaign_id).count() == 2
    chosen = draft(db, ["news"], servers=["two", "two"])
    assert CampaignServer.select().where(CampaignServer.campaign_id == chosen).count() == 1


def test_without_any_server_the_next_step_is_named(db: Db) -> None:
    add_list(db, "news", add_people(db, 1))
    with pytest.raises(NotFound, match="servers add"):
        draft(db, ["news"])


def test_scheduling_again_moves_it(db: Db, ready: None) -> None:
    campaign_id = draft(db, ["news"])
    schedule_campaign(db, campaign_id, NOW + 5000, NOW)
    schedule_campaign(db, campaign_id, NOW + 9000, NOW)
    found = find_campaign(campaign_id)
    assert (found.status, found.scheduled_at) == ("scheduled", NOW + 9000)
    assert start_due(db, NOW + 8999) == []
    assert start_due(db, NOW + 9000) == [campaign_id]


@pytest.mark.parametrize("status", ["sending", "paused", "sent", "cancelled", "failed"])
def test_only_a_draft_or_scheduled_campaign_can_be_scheduled(db: Db, ready: None, status: str) -> None:
    campaign_id = draft(db, ["news"])
    Campaign.update(status=status).execute()
    with pytest.raises(Refused, match=status):
        schedule_campaign(db, campaign_id, NOW, NOW)
    assert find_campaign(campaign_id).status == status


def test_what_changed_since_the_draft_is_found_when_scheduling(db: Db, ready: None) -> None:
    campaign_id = draft(db, ["news"])
    Server.delete().execute()
    with pytest.raises(NotFound, match="no SMTP server left"):
        schedule_campaign(db, campaign_id, NOW, NOW)
    add_server(name="new", host="127.0.0.1", port=25, tls="none", now=NOW)
    CampaignServer.update(server_id=Server.get().id).where(CampaignServer.server_id == 1).execute()
    db.run("UPDATE subscribers SET attributes = '{}'")
    with pytest.raises(TemplateProblem, match="city"):
        schedule_campaign(db, campaign_id, NOW, NOW)
    List.delete().execute()
    with pytest.raises(NotFound, match="list"):
        schedule_campaign(db, campaign_id, NOW, NOW)
    assert find_campaign(campaign_id).status == "draft"


def test_an_unknown_campaign_is_said_to_be_unknown(db: Db, ready: None) -> None:
    with pytest.raises(NotFound, match="no campaign 77"):
        schedule_campaign(db, 77, NOW, NOW)


def test_campaigns_start_in_the_order_of_their_times(db: Db, ready: None) -> None:
    late, early = draft(db, ["news"]), draft(db, ["news"])
    schedule_campaign(db, late, NOW + 20, NOW)
    schedule_campaign(db, early, NOW + 10, NOW)
    assert start_due(db, NOW + 60) == [early, late]
    assert start_due(db, NOW + 60) == []
    assert Expansion.select().count() == 2


def test_any_number_of_ticks_at_once_start_each_campaign_once(db: Db, ready: None) -> None:
    campaigns = [draft(db, ["news"]) for _ in range(12)]
    for campaign_id in campaigns:
        schedule_campaign(db, campaign_id, NOW, NOW)
    started: list[int] = []
    together = threading.Barrier(4)

    def tick() -> None:
        together.wait()
        started.extend(start_due(db, NOW))
        db.close()

    ticks = [threading.Thread(target=tick) for _ in range(4)]
    for one in ticks:
        one.start()
    for one in ticks:
        one.join()
    assert sorted(started) == campaigns
    assert Expansion.select().count() == len(campaigns)


def test_a_campaign_is_created_whole_or_not_at_all(db: Db, ready: None) -> None:
    db.run("DROP TABLE campaign_servers")
    with pytest.raises(Exception, match="campaign_servers"):
        draft(db, ["news"])
    assert Campaign.select().count() == 0

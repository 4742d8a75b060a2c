"""Writing campaigns: what is refused and by which field, what changes together, who is faster."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest

from app.campaigns import authoring
from app.campaigns.authoring import change, check, content_of, copy, create, delete, unschedule
from app.campaigns.lifecycle import Draft, find_campaign, schedule_campaign, start_due
from app.db import Db, connect
from app.errors import BadField, NotFound, Refused, TemplateProblem
from app.mail.servers import add_server
from app.models.tables import Campaign, Server
from tests.sending import NOW, add_list, add_people


@pytest.fixture
def draft(db: Db) -> Draft:
    """One that may be sent: to 3 people on two lists, over two servers."""
    for name in ("sink", "spare"):
        add_server(name=name, host="127.0.0.1", port=25, tls="none", now=NOW)
    people = add_people(db, 3)
    add_list(db, "news", people[:2])
    add_list(db, "offers", people[1:])
    return Draft(
        name="Spring", subject="Hello {{ name }}", sender="Shop <news@shop.test>", lists=["news", "offers"],
        html="<p>Dear {{ name }} of {{ city }}</p>", text="Dear {{ name }}",
    )  # fmt: skip


def test_what_was_said_comes_back(db: Db, draft: Draft) -> None:
    campaign_id = create(db, draft, NOW)
    content = content_of(db, campaign_id)
    assert content.draft == replace(draft, servers=["sink", "spare"])
    assert (content.status, content.scheduled_at, content.changes) == ("draft", None, True)
    assert Campaign.get_by_id(campaign_id).envelope_sender == "news@shop.test"


@pytest.mark.parametrize(
    ("said", "field", "words"),
    [
        ({"name": " "}, "name", "1 to 200 characters"),
        ({"name": "x" * 201}, "name", "1 to 200 characters"),
        ({"name": "a\nb"}, "name", "in one line"),
        ({"subject": " "}, "subject", "say what the mail is about"),
        ({"sender": "nobody"}, "from", "'nobody' is not an email address"),
        ({"sender": "a" * 501}, "from", "500 at most"),
        ({"lists": []}, "lists", "at least one list"),
        ({"lists": ["news", "nowhere"]}, "lists", "there is no list 'nowhere'"),
        ({"servers": ["nowhere"]}, "servers", "there is no SMTP server 'nowhere'"),
        ({"weight": 0}, "weight", "1 to 1000"),
    ],
)
def test_a_mistake_is_told_with_its_field(db: Db, draft: Draft, said: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(BadField, match=words) as refused:
        create(db, replace(draft, **said), NOW)
    assert refused.value.field == field
    assert Campaign.select().count() == 0


@pytest.mark.parametrize(
    ("said", "part", "line"),
    [
        ({"html": None, "text": " "}, "text", None),
        ({"subject": "{{ name"}, "subject", 1),
        ({"html": "<p>\n{{ shoe_size }}</p>"}, "html", 2),
    ],
)
def test_a_template_that_cannot_be_sent_is_told_with_part_and_line(
    db: Db, draft: Draft, said: dict[str, Any], part: str, line: int | None
) -> None:
    with pytest.raises(TemplateProblem) as refused:
        create(db, replace(draft, **said), NOW)
    assert (refused.value.part, refused.value.line) == (part, line)


def test_without_a_server_it_is_said_how_to_get_one(db: Db, draft: Draft) -> None:
    Server.update(state="removed").execute()
    with pytest.raises(BadField, match="bin/mailcrew servers add"):
        create(db, draft, NOW)


def test_a_change_changes_what_it_names_and_nothing_else(db: Db, draft: Draft) -> None:
    campaign_id = create(db, draft, NOW)
    changed = change(db, campaign_id, {"subject": "Hi", "lists": ["offers"], "servers": ["spare"], "html": None})
    assert changed.draft == replace(draft, subject="Hi", lists=["offers"], servers=["spare"], html=None)
    assert content_of(db, campaign_id) == changed


def test_a_change_with_a_mistake_changes_nothing(db: Db, draft: Draft) -> None:
    campaign_id = create(db, draft, NOW)
    with pytest.raises(BadField):
        change(db, campaign_id, {"subject": "Hi", "lists": ["nowhere"]})
    assert content_of(db, campaign_id).draft.subject == draft.subject


def test_who_has_not_seen_the_last_change_does_not_undo_it(db: Db, draft: Draft) -> None:
    campaign_id = create(db, draft, NOW)
    seen = content_of(db, campaign_id).version
    newer = change(db, campaign_id, {"subject": "Hi"}, seen)
    assert newer.version != seen
    with pytest.raises(Refused, match="changed by somebody else"):
        change(db, campaign_id, {"subject": "Ho"}, seen)
    assert change(db, campaign_id, {"subject": "Ho"}, newer.version).draft.subject == "Ho"


def test_what_is_sent_does_not_change_any_more(db: Db, draft: Draft) -> None:
    campaign_id = create(db, draft, NOW)
    schedule_campaign(db, campaign_id, NOW, NOW)
    change(db, campaign_id, {"subject": "Still in time"})
    start_due(db, NOW)
    for late in (
        lambda: change(db, campaign_id, {"subject": "Too late"}),
        lambda: delete(db, campaign_id),
        lambda: unschedule(db, campaign_id),
    ):
        with pytest.raises(Refused, match="is sending"):
            late()
    assert content_of(db, campaign_id).draft.subject == "Still in time"


def test_a_change_and_the_start_come_one_after_the_other(
    db: Db, database_url: str, draft: Draft, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tick that comes in the middle of a change waits, and sends the whole of it."""
    campaign_id = create(db, draft, NOW)
    schedule_campaign(db, campaign_id, NOW, NOW)
    started: list[int] = []
    other = connect(database_url)
    tick = threading.Thread(target=lambda: started.extend(start_due(other, NOW)))

    def in_the_middle(*arguments: Any) -> Any:
        tick.start()
        tick.join(0.5)
        assert not started
        return check(*arguments)

    monkeypatch.setattr(authoring, "check", in_the_middle)
    change(db, campaign_id, {"subject": "Whole", "lists": ["offers"]})
    tick.join(30)
    assert started == [campaign_id]
    assert content_of(db, campaign_id).draft == replace(
        draft, subject="Whole", lists=["offers"], servers=["sink", "spare"]
    )


def test_a_draft_is_thrown_away_and_its_id_not_used_again(db: Db, draft: Draft) -> None:
    campaign_id = create(db, draft, NOW)
    delete(db, campaign_id)
    with pytest.raises(NotFound):
        find_campaign(campaign_id)
    assert db.value("SELECT COUNT(*) FROM campaign_lists") == db.value("SELECT COUNT(*) FROM campaign_servers") == 0
    assert create(db, draft, NOW) > campaign_id
    with pytest.raises(NotFound):
        delete(db, campaign_id)


def test_a_copy_is_a_draft_whatever_has_become_of_the_original(db: Db, draft: Draft) -> None:
    original = create(db, replace(draft, servers=["spare"]), NOW)
    schedule_campaign(db, original, NOW, NOW)
    start_due(db, NOW)
    twin = copy(db, original, "Spring again", NOW)
    assert content_of(db, twin).draft == replace(draft, name="Spring again", servers=["spare"])
    assert find_campaign(twin).status == "draft"
    assert find_campaign(twin).message_key != find_campaign(original).message_key


def test_what_was_scheduled_can_be_put_off(db: Db, draft: Draft) -> None:
    campaign_id = create(db, draft, NOW)
    with pytest.raises(Refused, match="is draft: it is not scheduled"):
        unschedule(db, campaign_id)
    schedule_campaign(db, campaign_id, NOW + 5000, NOW)
    unschedule(db, campaign_id)
    assert (find_campaign(campaign_id).status, find_campaign(campaign_id).scheduled_at) == ("draft", None)
    assert start_due(db, NOW + 10_000) == []

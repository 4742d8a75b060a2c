"""A preview shows what would be sent; a test mail arrives, and counts for nothing but the server's limits."""

from __future__ import annotations

from collections.abc import Iterator
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default

import pytest
import redis

from app.campaigns.authoring import Checked, check, content_of
from app.campaigns.lifecycle import find_campaign
from app.campaigns.preview import preview, reader
from app.campaigns.trial import send_test
from app.config import Settings
from app.db import Db
from app.errors import BadField, Refused, TemplateProblem, Unavailable
from app.mail.servers import add_server
from app.models.tables import Recipient
from app.queues.broker import redis_client
from tests.sending import NOW, add_list, add_people, add_test_server, draft, expand, send_all, start
from tests.smtp_faults import Mail, on, reply
from tests.smtp_server import SmtpServer


@pytest.fixture
def people(db: Db) -> list[int]:
    people = add_people(db, 20)
    add_list(db, "empty", [])
    add_list(db, "all", people)
    return people


def checked(db: Db, campaign_id: int) -> Checked:
    return check(db, content_of(db, campaign_id).draft)


def parsed(mail: Mail) -> EmailMessage:
    found = message_from_bytes(mail.content, policy=default)
    assert isinstance(found, EmailMessage)
    return found


def test_a_preview_is_the_mail_that_is_sent(db: Db, settings: Settings, people: list[int]) -> None:
    with SmtpServer() as server:
        add_test_server(server)
        campaign_id = draft(
            db, ["all"], subject="Grüße, {{ name }} – 你好", text="Dear {{ name }}\n.\n..dots\n{{ city }}\n",
            html="<p class=\"x\">Dear {{ name }} of {{ city }} " + "é" * 500 + "</p>",
        )  # fmt: skip
        shown = preview(db, checked(db, campaign_id), "p7@example.test", like=find_campaign(campaign_id))
        start(db, campaign_id)
        expand(db, settings, campaign_id)
        assert send_all(db, settings) == 20
        sent = next(mail for mail in server.mails if mail.recipients == ("p7@example.test",))

    assert (shown.subscriber_id, shown.email, shown.name) == (people[6], "p7@example.test", "Person 7")
    assert shown.subject == "Grüße, Person 7 – 你好"
    assert shown.text == "Dear Person 7\n.\n..dots\nRome\n"
    assert shown.html == '<p class="x">Dear Person 7 of Rome ' + "é" * 500 + "</p>"
    arrived = parsed(sent)
    assert dict(shown.headers) | {"Date": ""} == {name: str(value) for name, value in arrived.items()} | {"Date": ""}
    assert arrived.get_body(("html",)).get_content() == shown.html  # type: ignore[union-attr]


def test_the_first_the_random_and_the_named_reader_would_all_be_mailed(db: Db, people: list[int]) -> None:
    both = [1, 2]
    db.run("UPDATE subscribers SET status = 'blocked' WHERE id IN (?, ?)", people[0], people[10])
    db.run("UPDATE memberships SET status = 'unsubscribed' WHERE subscriber_id IN (?, ?)", people[1], people[11])
    left = set(people) - {people[i] for i in (0, 1, 10, 11)}
    assert reader(db, both).subscriber_id == people[2]
    met = {reader(db, both, "random").subscriber_id for _ in range(300)}
    assert met <= left
    assert len(met) > 8
    assert reader(db, both, " P5@Example.test ").subscriber_id == people[4]
    for absent in ("p1@example.test", "p2@example.test", "nobody@example.test"):
        with pytest.raises(BadField, match=f"{absent} would not be mailed") as refused:
            reader(db, both, absent)
        assert refused.value.field == "email"
    with pytest.raises(BadField, match="nobody on these lists"):
        reader(db, [1])


def test_what_only_this_reader_lacks_is_told(db: Db, people: list[int]) -> None:
    add_server(name="sink", host="127.0.0.1", port=25, tls="none", now=NOW)
    db.run("UPDATE subscribers SET attributes = '{}' WHERE id = ?", people[3])
    campaign_id = draft(db, ["all"])
    with pytest.raises(TemplateProblem, match="city"):
        preview(db, checked(db, campaign_id), "p4@example.test")


@pytest.fixture
def client(settings: Settings, redis_server: str) -> Iterator[redis.Redis]:
    client = redis_client(f"{redis_server}?db=10")
    client.flushdb()
    yield client
    client.flushdb()
    client.close()


def test_a_test_mail_arrives_marked_and_is_nobodys(db: Db, client: redis.Redis, people: list[int]) -> None:
    with SmtpServer() as server:
        add_test_server(server)
        campaign_id = draft(db, ["all"])
        content = checked(db, campaign_id)
        first = send_test(db, client, campaign_id, content, "Me@Author.test", who="p3@example.test")
        second = send_test(db, client, campaign_id, content, "me@author.test")
        mails = [parsed(mail) for mail in server.mails]
        assert server.violations == []
    assert (first.to, first.server) == ("Me@author.test", "sink")
    assert first.reply.startswith("250")
    assert [mail.recipients for mail in server.mails] == [("Me@author.test",), ("me@author.test",)]
    assert [mail["Subject"] for mail in mails] == ["[Test] Hello Person 3", "[Test] Hello Person 1"]
    assert [mail["Message-ID"] for mail in mails] == [first.message_id, second.message_id]
    assert first.message_id != second.message_id
    assert Recipient.select().count() == 0
    assert find_campaign(campaign_id).status == "draft"


def test_a_test_mail_counts_against_the_limits(db: Db, client: redis.Redis, people: list[int]) -> None:
    with SmtpServer() as server:
        add_server(name="slow", host="127.0.0.1", port=server.port, tls="none", now=NOW, per_hour=1)
        campaign_id = draft(db, ["all"])
        content = checked(db, campaign_id)
        send_test(db, client, campaign_id, content, "me@author.test")
        with pytest.raises(Unavailable, match="hour limit of server slow"):
            send_test(db, client, campaign_id, content, "me@author.test")
        assert len(server.mails) == 1


def test_the_next_server_takes_it_when_one_cannot(db: Db, client: redis.Redis, people: list[int]) -> None:
    with SmtpServer() as server:
        add_server(name="dead", host="127.0.0.1", port=1, tls="none", now=NOW)
        add_test_server(server, "good")
        campaign_id = draft(db, ["all"])
        content = checked(db, campaign_id)
        assert send_test(db, client, campaign_id, content, "me@author.test").server == "good"
        with pytest.raises(Unavailable, match="dead: "):
            send_test(db, client, campaign_id, content, "me@author.test", server="dead")
        with pytest.raises(BadField, match="'none' is no active SMTP server"):
            send_test(db, client, campaign_id, content, "me@author.test", server="none")


def test_what_a_server_says_against_it_is_told(db: Db, client: redis.Redis, people: list[int]) -> None:
    with SmtpServer(plan=on("RCPT", reply("550 5.1.1 no such user"))) as server:
        add_test_server(server)
        campaign_id = draft(db, ["all"])
        with pytest.raises(Refused, match=r"5\.1\.1 no such user"):
            send_test(db, client, campaign_id, checked(db, campaign_id), "me@author.test")
    with pytest.raises(BadField, match="'me' is not an email address") as refused:
        send_test(db, client, campaign_id, checked(db, campaign_id), "me")
    assert refused.value.field == "to"

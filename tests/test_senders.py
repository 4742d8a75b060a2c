"""Paused senders: nothing of theirs goes, campaigns from others go on; on the command line and beside a real worker."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from app import config
from app.campaigns.lifecycle import find_campaign
from app.campaigns.progress import progress_of
from app.cli.main import main
from app.cli.senders import lines
from app.config import Settings
from app.db import Db
from app.errors import UsageError
from app.mail.cooldown import Spot, Trouble
from app.mail.senders import BY_HAND, pause_sender, resume_sender, senders
from app.mail.servers import add_server
from app.models.tables import Campaign
from app.queues.broker import redis_client
from tests.sending import NOW, add_list, add_people, add_test_server, draft, expand, start
from tests.smtp_faults import Event, Fault
from tests.smtp_server import SmtpServer
from tests.working import WorkerProcess, eventually


@pytest.fixture
def home(db: Db, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    monkeypatch.setenv("MAILCREW_HOME", str(settings.home))
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    config.settings.cache_clear()
    yield settings
    config.settings.cache_clear()


def command(*arguments: str) -> int:
    try:
        return main(["senders", *arguments])
    except SystemExit as end:
        return int(end.code or 0)


def campaign_from(db: Db, settings: Settings, sender: str, people: int = 3) -> int:
    name = f"list of {sender}"
    add_list(db, name, add_people(db, people, prefix=f"{sender.partition('@')[0].lower()}-"))
    campaign_id = draft(db, [name], sender=sender)
    start(db, campaign_id)
    expand(db, settings, campaign_id)
    return campaign_id


def test_a_sender_is_known_by_its_address_however_it_is_written(db: Db) -> None:
    assert pause_sender(db, "Shop <News@Shop.TEST>", None, NOW)
    (one,) = senders(db)
    assert (one.sender, one.state, one.reason, one.paused_at) == ("news@shop.test", "paused", BY_HAND, NOW)
    assert not pause_sender(db, "news@shop.test", None, NOW + 1)
    assert senders(db)[0].reason == BY_HAND
    assert not pause_sender(db, "NEWS@shop.test", "  on a\nblocklist ", NOW + 1)
    assert (senders(db)[0].reason, senders(db)[0].paused_at) == ("on a blocklist", NOW)
    assert resume_sender(db, "news@SHOP.test")
    assert not resume_sender(db, "news@shop.test")
    assert senders(db) == []


@pytest.mark.parametrize(("address", "reason"), [("nobody", ""), ("", ""), ("a@b c", ""), ("a@b.test", "x" * 501)])
def test_what_is_no_address_or_too_long_is_refused(db: Db, address: str, reason: str) -> None:
    with pytest.raises(UsageError):
        pause_sender(db, address, reason, NOW)
    assert senders(db) == []


def test_senders_are_shown_with_their_trouble_and_campaigns(db: Db, settings: Settings) -> None:
    ids = [add_server(name=name, host="h", port=25, tls="none", now=NOW) for name in ("one", "two")]
    first, second = (campaign_from(db, settings, sender) for sender in ("News@shop.test", "care@shop.test"))
    Spot(ids[0], "one", "care@shop.test").cool_down(db, Trouble(), "450 4.7.1 slow down", NOW)
    pause_sender(db, "old@shop.test", "retired", NOW)
    care, news, old = senders(db)
    assert (care.state, care.campaigns, [c.server for c in care.cooldowns]) == ("cooling", [second], ["one"])
    assert care.cooldowns[0].reason == "450 4.7.1 slow down"
    assert (news.sender, news.state, news.campaigns) == ("news@shop.test", "active", [first])
    assert (old.state, old.campaigns) == ("paused", [])
    assert "tried again at" in lines(care, NOW)[1]
    assert "tried with the next mail" in lines(care, NOW + 3_600_000)[1], "in trouble until a mail is taken"


def test_a_campaign_that_waited_goes_on_at_once_when_its_sender_is_resumed(db: Db, settings: Settings) -> None:
    add_server(name="one", host="h", port=25, tls="none", now=NOW)
    mine, others = (campaign_from(db, settings, sender) for sender in ("a@shop.test", "b@shop.test"))
    Campaign.update(held_until=NOW + 60_000, held_by="hour limit of server one").execute()
    pause_sender(db, "a@shop.test", "why not", NOW)
    assert progress_of(db, find_campaign(mine), NOW).blocked_by == "sender a@shop.test is paused: why not"
    resume_sender(db, "A@shop.test")
    assert [find_campaign(id_).held_until for id_ in (mine, others)] == [0, NOW + 60_000]


def test_the_commands_say_what_they_did_and_again(home: Settings, db: Db, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("list") == 0
    assert command("pause", "News@shop.test", "--reason", "on a blocklist") == 0
    assert "bin/mailcrew senders resume news@shop.test" in capsys.readouterr().out
    assert command("pause", "news@shop.test", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"sender": "news@shop.test", "changed": False, "in_hand": 0}
    assert command("list", "--json") == 0
    (one,) = json.loads(capsys.readouterr().out)
    assert (one["sender"], one["state"], one["reason"], one["cooldowns"]) == (
        "news@shop.test", "paused", "on a blocklist", [],
    )  # fmt: skip
    assert one["paused_at"].endswith("+00:00")
    assert command("list") == 0
    assert "paused: on a blocklist" in capsys.readouterr().out
    assert command("resume", "news@shop.test") == 0
    assert command("resume", "news@shop.test") == 0
    assert "is not paused" in capsys.readouterr().out
    assert command("pause", "nobody") == 2
    assert command("pause", "a@b.test", "--wait", "-1") == 2


def test_what_workers_have_in_hand_is_told(home: Settings, db: Db, capsys: pytest.CaptureFixture[str]) -> None:
    add_server(name="one", host="h", port=25, tls="none", now=NOW)
    campaign_from(db, home, "a@shop.test", 3)
    db.run("UPDATE batches SET state = 'leased'")
    assert command("pause", "b@shop.test", "--wait", "0") == 0, "what others have in hand is not theirs"
    assert command("pause", "A@shop.test", "--wait", "0") == 1
    assert "workers have 3 recipients in hand yet (1 batches)" in capsys.readouterr().err


@pytest.mark.slow
def test_no_mail_of_a_paused_sender_is_accepted_and_others_go_on(db: Db, settings: Settings, home: Settings) -> None:
    here = replace(settings, send_batch_size=50)
    client = redis_client(settings.redis_url)
    client.flushdb()
    client.close()
    slow = threading.Event()
    slow.set()

    def plan(event: Event) -> Fault | None:
        return Fault(delay=0.05 if slow.is_set() else 0.0) if event.verb == "DOT" else None

    with SmtpServer(plan=plan) as server:
        add_test_server(server)
        mine = campaign_from(db, here, "News@shop.test", 1000)
        other = campaign_from(db, here, "care@shop.test", 1000)

        def of(sender: str) -> int:
            return sum(mail.sender.lower() == sender for mail in list(server.mails))

        with WorkerProcess(settings, "--queues", "send", "--threads", "2", "--sleep", "0.1"):
            eventually(lambda: of("news@shop.test") > 50, "it is being sent")
            assert command("pause", "news@shop.test", "--wait", "20") == 0
            slow.clear()
            accepted, before = of("news@shop.test"), of("care@shop.test")
            eventually(lambda: of("care@shop.test") >= min(1000, before + 200), "the other one goes on")
            time.sleep(0.3)
            assert of("news@shop.test") == accepted < 1000
            assert find_campaign(mine).status == "sending"
            resume_sender(db, "news@shop.test")
            eventually(lambda: {find_campaign(id_).status for id_ in (mine, other)} == {"sent"}, "both are sent")
    assert set(server.counts().values()) == {1}
    assert len(server.counts()) == 2000

"""Changing, pausing, removing and cooling servers; campaigns that wait for one look again at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from app import config
from app.campaigns.lifecycle import find_campaign
from app.cli.main import main
from app.config import Settings
from app.db import Db
from app.errors import NotFound, Refused
from app.mail.cooldown import Spot, Trouble
from app.mail.limits import History, Limiter, Refusal
from app.mail.server_changes import change_server, pause_server, remove_server, resume_server
from app.mail.server_views import limits_of
from app.mail.servers import add_server
from app.models.tables import Campaign, Server
from app.queues.broker import redis_client
from tests.sending import NOW, add_list, add_people, add_test_server, draft, expand, send_all, start
from tests.smtp_faults import on, reply
from tests.smtp_server import Offers, SmtpServer

LOGIN: dict[str, Any] = {"username": "me", "password_env": "PASSWORD_OF_ONE"}


@pytest.fixture
def home(db: Db, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    client = redis_client(settings.redis_url)
    client.flushdb()
    client.close()
    monkeypatch.setenv("MAILCREW_HOME", str(settings.home))
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    monkeypatch.setenv("PASSWORD_OF_ONE", "tr0ub4dor")
    config.settings.cache_clear()
    yield settings
    config.settings.cache_clear()


def servers(*arguments: str) -> int:
    try:
        return main(["servers", *arguments])
    except SystemExit as end:
        return int(end.code or 0)


def add(name: str, port: int = 25, **options: Any) -> int:
    return add_server(name=name, host="127.0.0.1", port=port, tls="none", now=NOW, **options)


def row(name: str) -> Server:
    found: Server = Server.get(Server.name == name)
    return found


def campaign_to(db: Db, settings: Settings, people: int) -> int:
    add_list(db, "all", add_people(db, people))
    campaign_id = draft(db, ["all"])
    start(db, campaign_id)
    expand(db, settings, campaign_id)
    return campaign_id


@pytest.fixture
def campaign(db: Db, settings: Settings) -> int:
    """A campaign that waits for its only server."""
    add("one", per_day=100)
    campaign_id = campaign_to(db, settings, 3)
    Campaign.update(held_until=NOW + 9_000_000_000, held_by="day limit of server one").execute()
    return campaign_id


def test_what_is_said_is_changed_and_nothing_else(
    home: Settings, db: Db, campaign: int, capsys: pytest.CaptureFixture[str]
) -> None:
    before = row("one").__data__
    assert servers("change", "one", "--per-day", "200", "--no-per-hour", "--weight", "3") == 0
    said = capsys.readouterr().out
    assert "server one: per day, weight changed" in said
    assert "campaigns that waited for it look again: 1" in said
    assert row("one").__data__ == {**before, "per_day": 200, "weight": 3}
    assert (find_campaign(campaign).held_until, find_campaign(campaign).held_by) == (0, None)
    assert servers("change", "one", "--weight", "3") == 0
    assert "is like that already" in capsys.readouterr().out


def test_a_limit_and_a_user_are_taken_away(home: Settings, db: Db) -> None:
    add("one", per_day=100, per_hour=10, **LOGIN)
    assert servers("change", "one", "--no-per-day", "--no-user") == 0
    one = row("one")
    assert (one.per_day, one.per_hour, one.username, one.password_env) == (None, 10, None, None)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "nothing to change"),
        (("--per-day", "5", "--no-per-day"), "contradict"),
        (("--no-user", "--password-env", "V"), "contradict"),
        (("--user", "me"), "--password-env"),
        (("--host", "smtp.example.com", "--user", "me", "--password-env", "V"), "in clear"),
        (("--port", "0"), "--port=0"),
        (("--timezone", "nowhere"), "--timezone"),
        (("--per-second", "0"), "--per-second=0"),
        (("--pause", "--resume"), "not allowed with"),
    ],
)
def test_a_change_that_cannot_work_changes_nothing(
    home: Settings, db: Db, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    add("one", per_day=100)
    before = row("one").__data__
    assert servers("change", "one", *arguments) == 2
    assert said in capsys.readouterr().err
    assert row("one").__data__ == before


def test_another_password_or_host_ends_the_trouble_that_the_old_one_had(db: Db) -> None:
    Spot(add("one"), "one").cool_down(db, Trouble(), "535 wrong password", NOW)
    change_server(db, "one", {"weight": 2})
    assert row("one").cooldown_step == 1
    change_server(db, "one", {"host": "localhost"})
    one = row("one")
    assert (one.cooldown_step, one.cooldown_until, one.cooldown_reason) == (0, None, None)


def test_a_server_that_gets_its_first_limit_has_what_it_sent_counted(home: Settings, db: Db) -> None:
    id_ = add("one")
    db.run(
        "INSERT INTO deliveries (server_id, minute, campaign_id, attempts, sent) VALUES (?, ?, 1, 60, 60)",
        id_, db.now_ms() // 60_000,
    )  # fmt: skip
    assert servers("change", "one", "--per-day", "50") == 0
    client = redis_client(home.redis_url)
    found = Limiter(client, History(db)).reserve(id_, "one", limits_of(row("one")), 1)
    client.close()
    assert isinstance(found, Refusal)


def test_a_paused_server_sends_nothing_and_another_takes_over(
    home: Settings, db: Db, capsys: pytest.CaptureFixture[str]
) -> None:
    with SmtpServer() as one, SmtpServer() as two:
        add_test_server(one, "one")
        add_test_server(two, "two")
        campaign_to(db, home, 40)
        assert servers("change", "one", "--pause") == 0
        assert "servers change one --resume" in capsys.readouterr().out
        assert send_all(db, home) == 40
        assert (len(one.mails), len(two.mails)) == (0, 40)
    assert not pause_server(db, "one")
    assert servers("list") == 0
    assert "paused by hand" in capsys.readouterr().out
    Spot(1, "one").cool_down(db, Trouble(), "421 busy", NOW)
    assert resume_server(db, "one")
    assert (row("one").state, row("one").cooldown_step) == ("active", 0)
    assert not resume_server(db, "one")


def test_the_only_server_of_an_open_campaign_is_not_removed(
    home: Settings, db: Db, campaign: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert servers("remove", "one") == 1
    said = capsys.readouterr().err
    assert f"the only one of campaign {campaign} 'test' (sending)" in said
    assert "servers change one --pause" in said
    add("two")
    db.run("INSERT INTO campaign_servers (campaign_id, server_id) VALUES (?, ?)", campaign, row("two").id)
    assert servers("remove", "one") == 0
    assert f"campaign {campaign} 'test' (sending) goes on without it" in capsys.readouterr().out
    with pytest.raises(Refused):
        remove_server(db, "two")
    db.run("UPDATE campaigns SET status = 'cancelled'")
    assert remove_server(db, "two") == []


def test_a_removed_server_is_gone_and_what_went_over_it_keeps_its_name(
    home: Settings, db: Db, capsys: pytest.CaptureFixture[str]
) -> None:
    with SmtpServer() as server:
        id_ = add_test_server(server, "one")
        campaign_id = campaign_to(db, home, 2)
        send_all(db, home)
    assert servers("remove", "one") == 0
    for gone in (
        lambda: remove_server(db, "one"),
        lambda: draft(db, ["all"], servers=["one"]),
        lambda: draft(db, ["all"]),
    ):
        with pytest.raises(NotFound):
            gone()
    assert servers("change", "one", "--resume") == 1
    capsys.readouterr()
    assert main(["campaigns", "recipients", str(campaign_id), "--json"]) == 0
    assert capsys.readouterr().out.count('"server": "one"') == 2
    assert servers("list") == 0
    assert "no server yet" in capsys.readouterr().out
    assert add("one") > id_
    assert [str(s.name) for s in Server.select().order_by(Server.id)] == [f"one (removed, {id_})", "one"]


def test_a_cool_down_is_ended_by_hand_for_the_server_and_its_senders(
    home: Settings, db: Db, campaign: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert servers("cool", "one", "--clear") == 0
    assert "in no trouble" in capsys.readouterr().out
    Spot(1, "one", "news@shop.test").cool_down(db, Trouble(), "450 slow down", NOW)
    assert servers("cool", "one", "--clear") == 0
    assert "tried again at once" in capsys.readouterr().out
    assert db.rows("SELECT * FROM sender_cooldowns") == []
    assert find_campaign(campaign).held_until == 0
    assert servers("cool", "one") == 2


# -- trying one out ------------------------------------------------------------------------------------


def test_every_step_of_a_session_is_told(home: Settings, db: Db, capsys: pytest.CaptureFixture[str]) -> None:
    with SmtpServer(Offers(users={"me": "tr0ub4dor"})) as server:
        add("one", server.port, **LOGIN)
        assert servers("test", "one") == 0
        said = capsys.readouterr().out
        assert [word for word in ("connected: 220", "EHLO: ", "AUTH as me: 235", "QUIT: 221") if word not in said] == []
        assert "tr0ub4dor" not in said
        assert server.mails == []
        assert servers("test", "one", "--to", "me@example.com", "--from", "shop@example.com") == 0
        assert "mail from shop@example.com to me@example.com: 250" in capsys.readouterr().out
        assert [(m.sender, m.recipients) for m in server.mails] == [("shop@example.com", ("me@example.com",))]
        assert db.value("SELECT SUM(attempts) FROM deliveries") == 1
        assert server.violations == []


def test_the_step_that_fails_is_told(
    home: Settings, db: Db, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with SmtpServer(Offers(users={"me": "another"})) as server:
        add("one", server.port, **LOGIN)
        assert servers("test", "one") == 1
        output = capsys.readouterr()
        assert "EHLO" in output.out
        assert "rejected the user name or password" in output.err
        monkeypatch.delenv("PASSWORD_OF_ONE")
        assert servers("test", "one") == 1
        assert "PASSWORD_OF_ONE" in capsys.readouterr().err
    with SmtpServer(plan=on("RCPT", reply("550 5.7.1 relaying denied"))) as server:
        add_test_server(server, "two")
        assert servers("test", "two") == 0
        assert servers("test", "two", "--to", "me@example.com") == 1
        assert "relaying denied" in capsys.readouterr().err
    assert servers("test", "two") == 1
    assert "refuses connections" in capsys.readouterr().err
    assert servers("test", "three") == 1


def test_a_mail_to_try_it_out_does_not_go_over_a_limit(
    home: Settings, db: Db, capsys: pytest.CaptureFixture[str]
) -> None:
    with SmtpServer() as server:
        add_test_server(server, "one")
        Server.update(per_hour=1).execute()
        assert servers("test", "one", "--to", "me@example.com") == 0
        assert servers("test", "one", "--to", "me@example.com") == 1
        assert "hour limit of server one" in capsys.readouterr().err
        assert len(server.mails) == 1

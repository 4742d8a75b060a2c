"""Alerts: told once, again after a while, and as resolved; by webhook and by mail, to real receivers."""

from __future__ import annotations

import fcntl
import stat
from email import message_from_bytes
from email.policy import default
from pathlib import Path

import pytest

from app.config import Settings, make_home, read_settings
from app.db import Db, connect
from app.errors import Unavailable
from app.mail.servers import add_server
from app.scaling.alert_routes import alert_server, mail, post
from app.scaling.alerts import Alert, Message, tell
from tests.smtp_faults import on, reply
from tests.smtp_server import SmtpServer
from tests.webhooks import receiver

NOW = 1_790_000_000_000
MINUTE = 60_000
DOWN = Alert("supervisord", "supervisord", "does not run", "bin/supervisor-manager start")
FULL = Alert("disk:logs", "disk", "9 MB left", "make room")


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    made = read_settings({"MAILCREW_HOME": str(tmp_path / "home"), "ALERT_REPEAT_MINUTES": "30"}, root=tmp_path)
    make_home(made)
    return made


class Ear:
    """A way of telling that keeps what it was told."""

    def __init__(self) -> None:
        self.heard: list[Message] = []
        self.deaf = False

    def __call__(self, message: Message) -> None:
        if self.deaf:
            raise Unavailable("nobody listens")
        self.heard.append(message)


def test_a_problem_is_told_once_then_again_after_a_while_then_as_resolved(home: Settings) -> None:
    ear = Ear()

    def check(minute: int, *alerts: Alert) -> list[str]:
        return tell(home, alerts, {"ear": ear}, NOW + minute * MINUTE)

    for minute in range(30):
        check(minute, DOWN)
    assert ear.heard == [Message((DOWN,), ())]
    check(30, DOWN)
    assert len(ear.heard) == 2
    check(31, DOWN, FULL)
    assert ear.heard[-1] == Message((FULL,), ())
    check(32, FULL)
    assert ear.heard[-1] == Message((), (DOWN.line,))
    check(33)
    assert ear.heard[-1] == Message((), (FULL.line,))
    check(34)
    check(35, DOWN)
    assert ear.heard[-1] == Message((DOWN,), ())
    assert len(ear.heard) == 6


def test_other_figures_are_the_same_problem(home: Settings) -> None:
    ear = Ear()
    for minute, left in enumerate((9, 8, 7)):
        alert = Alert("disk:logs", "disk", f"{left} MB left", "make room")
        tell(home, [alert], {"ear": ear}, NOW + minute * MINUTE)
    tell(home, [], {"ear": ear}, NOW + 3 * MINUTE)
    assert len(ear.heard) == 2
    assert ear.heard[1].resolved == ("disk: 7 MB left; make room",)


def test_what_could_not_be_told_is_told_at_the_next_check_and_only_there(home: Settings) -> None:
    ear, other = Ear(), Ear()
    ear.deaf = True
    assert tell(home, [DOWN], {"ear": ear, "other": other}, NOW) == ["nobody listens"]
    ear.deaf = False
    assert tell(home, [DOWN], {"ear": ear, "other": other}, NOW + MINUTE) == []
    assert (len(ear.heard), len(other.heard)) == (1, 1)
    ear.deaf = True
    tell(home, [], {"ear": ear, "other": other}, NOW + 2 * MINUTE)
    ear.deaf = False
    tell(home, [], {"ear": ear, "other": other}, NOW + 3 * MINUTE)
    assert [m.resolved for m in (ear.heard[-1], other.heard[-1])] == [(DOWN.line,)] * 2
    assert (len(ear.heard), len(other.heard)) == (2, 2)


def test_a_clock_that_was_set_back_does_not_silence_a_problem(home: Settings) -> None:
    ear = Ear()
    tell(home, [DOWN], {"ear": ear}, NOW)
    tell(home, [DOWN], {"ear": ear}, NOW - 1000 * MINUTE)
    assert len(ear.heard) == 2


def test_a_second_check_beside_the_first_tells_nothing(home: Settings) -> None:
    ear = Ear()
    with (home.state / "alerts.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert tell(home, [DOWN], {"ear": ear}, NOW) == []
    assert ear.heard == []
    tell(home, [DOWN], {"ear": ear}, NOW)
    assert len(ear.heard) == 1


def test_a_broken_memory_is_begun_anew_and_is_closed_to_others(home: Settings) -> None:
    ear = Ear()
    memory = home.state / "alerts.json"
    for broken in ("", "{", "[]", '{"a": 1}', '{"a": {"line": "x", "seen": 1, "told": 5}}'):
        memory.write_text(broken)
        tell(home, [DOWN], {"ear": ear}, NOW)
    assert len(ear.heard) == 5
    assert stat.S_IMODE(memory.stat().st_mode) == 0o600


@pytest.mark.parametrize("spoiled", ["alerts.lock", "alerts.json"])
def test_what_cannot_be_remembered_is_told_all_the_same(home: Settings, spoiled: str) -> None:
    ear = Ear()
    # As a file that root has left behind is for others: it can neither be opened nor written.
    (home.state / spoiled).mkdir()
    (said,) = tell(home, [DOWN], {"ear": ear}, NOW)
    assert ear.heard == [Message((DOWN,), ())]
    assert f"{home.state / spoiled} cannot be used" in said
    assert "may be told again" in said
    assert [path.name for path in home.state.glob(".alerts*")] == []


# -- the ways ------------------------------------------------------------------------------------------


def test_a_webhook_gets_text_for_a_chat_and_fields_for_a_program(home: Settings) -> None:
    with receiver() as hook:
        post(hook.url, home, Message((DOWN,), (FULL.line,)))
    (posted,) = hook.posted
    assert posted["status"] == "alert"
    assert f"ALERT: {DOWN.line}" in posted["text"]
    assert f"resolved: {FULL.line}" in posted["text"]
    assert posted["alerts"][0]["key"] == "supervisord"


def test_a_webhook_that_refuses_or_is_away_is_named_without_its_secret(home: Settings) -> None:
    with receiver(status=500) as hook, pytest.raises(Unavailable, match=r"127\.0\.0\.1 answered 500") as refused:
        post(hook.url, home, Message((DOWN,), ()))
    with pytest.raises(Unavailable, match="cannot be reached") as away:
        post(hook.url, home, Message((DOWN,), ()))
    assert "secret" not in f"{refused.value}{away.value}"


def test_a_mail_goes_through_the_first_server_of_ours(db: Db, database_url: str, home: Settings) -> None:
    with SmtpServer() as server:
        add_server(name="relay", host="127.0.0.1", port=server.port, tls="none", now=NOW)
        mail("ops@example.com", home, lambda: alert_server(home, lambda: connect(database_url)), Message((DOWN,), ()))
        assert server.counts()["ops@example.com"] == 1
        assert server.violations == []
        letter = message_from_bytes(server.mails[0].content, policy=default)
    assert letter["Subject"].endswith("1 alert")
    assert letter["From"] == letter["To"] == "ops@example.com"
    assert letter["Auto-Submitted"] == "auto-generated"
    assert f"ALERT: {DOWN.line}" in letter.get_content()


def test_without_a_server_the_setting_is_named(db: Db, database_url: str, home: Settings) -> None:
    with pytest.raises(Unavailable, match="ALERT_SMTP"):
        alert_server(home, lambda: connect(database_url))


def test_a_server_of_its_own_needs_no_database(tmp_path: Path) -> None:
    with SmtpServer(plan=on("RCPT", reply("550 5.1.1 no such user"))) as server:
        found = read_settings(
            {"MAILCREW_HOME": str(tmp_path), "ALERT_SMTP": f"smtp://127.0.0.1:{server.port}"}, root=tmp_path
        )

        def never() -> Db:
            raise AssertionError("the database was asked")

        with pytest.raises(Unavailable, match=r"did not take the mail to ops@example\.com.*no such user"):
            mail("ops@example.com", found, lambda: alert_server(found, never), Message((DOWN,), ()))


@pytest.mark.parametrize(
    ("url", "host", "port", "tls", "user"),
    [
        ("smtp://relay.example.com", "relay.example.com", 25, "none", None),
        ("smtp+starttls://a%40b:p%3Aw@relay.example.com", "relay.example.com", 587, "starttls", "a@b"),
        ("smtps://relay.example.com:2465", "relay.example.com", 2465, "tls", None),
    ],
)
def test_the_url_of_a_server_says_how_to_reach_it(
    tmp_path: Path, url: str, host: str, port: int, tls: str, user: str | None
) -> None:
    found = read_settings({"MAILCREW_HOME": str(tmp_path), "ALERT_SMTP": url}, root=tmp_path)
    address = alert_server(found, lambda: connect("sqlite:////nowhere/x"))
    assert (address.host, address.port, address.tls, address.username) == (host, port, tls, user)
    assert address.password == ("p:w" if user else None)

"""Opening a connection for real: TLS both ways, logins, and every way in which it fails."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.mail.transport import Connection, Envelope, Kind, ProviderTrouble, ServerAddress, Timeouts
from tests.smtp_faults import Certificates, Fault, Plan, Tls, drop, make_certificates, on, reply, silent
from tests.smtp_server import Offers, SmtpServer

#: For a server that is silent on purpose.
SHORT = Timeouts(connect=0.2, command=0.2, data=0.2, block=0.2, final=0.2, quit=0.2)
CONTENT = b"Subject: hello\r\n\r\nworld\r\n"
USERS = {"crew": "s3cret"}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


def connect(
    server: SmtpServer,
    tls: Tls = "none",
    ca: Path | None = None,
    user: str | None = None,
    password: str = "",
    timeouts: Timeouts | None = None,
) -> Connection:
    address = ServerAddress("127.0.0.1", server.port, tls, str(ca) if ca else None, user, password)
    return Connection.open(address, timeouts=timeouts or Timeouts(), local_hostname="client.example")


def send_two(connection: Connection) -> None:
    assert connection.begin(Envelope("s@example.org", "a@example.org")).ready
    connection.send(CONTENT, Envelope("s@example.org", "b@example.org"))
    outcome, opened = connection.finish()
    assert outcome.kind is Kind.ACCEPTED
    assert opened
    assert opened.ready
    connection.send(CONTENT)
    assert connection.finish()[0].kind is Kind.ACCEPTED
    connection.close()


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("tls", ["none", "starttls", "tls"])
def test_mail_goes_through_each_kind_of_tls_and_login(tls: Tls, mechanism: str, certificates: Certificates) -> None:
    offers = Offers(tls=tls, users=USERS, mechanisms=(mechanism,))
    with SmtpServer(offers, certificates=certificates) as server:
        send_two(connect(server, tls, certificates.authority, "crew", "s3cret"))
    assert [(mail.tls, mail.user, mail.content) for mail in server.mails] == [(tls != "none", "crew", CONTENT)] * 2
    assert server.violations == []


def trouble(server: SmtpServer, tls: Tls = "none", ca: Path | None = None, **more: Any) -> ProviderTrouble:
    with pytest.raises(ProviderTrouble) as raised:
        connect(server, tls, ca, **more)
    assert server.mails == []
    return raised.value


@pytest.mark.parametrize("tls", ["starttls", "tls"])
def test_a_certificate_of_an_unknown_authority_is_refused_for_good(tls: Tls, certificates: Certificates) -> None:
    with SmtpServer(Offers(tls=tls), certificates=certificates) as server:
        found = trouble(server, tls)
    assert found.permanent
    assert "certificate" in found.reason
    assert "issuer" in found.reason


def test_a_certificate_for_another_name_is_refused_for_good(tmp_path: Path) -> None:
    made = make_certificates(tmp_path, names="DNS:localhost")
    with SmtpServer(Offers(tls="tls"), certificates=made) as server:
        found = trouble(server, "tls", made.authority)
    assert found.permanent
    assert "127.0.0.1" in found.reason


def test_without_starttls_nothing_is_said_in_clear() -> None:
    with SmtpServer(Offers(users=USERS)) as server:
        found = trouble(server, "starttls", user="crew", password="s3cret")
    assert found.permanent
    assert "STARTTLS" in found.reason
    assert [line.split()[0] for line in server.said()] == ["ehlo"]


def test_tls_spoken_to_a_server_without_it_is_trouble_and_not_a_crash() -> None:
    with SmtpServer() as server:
        assert "TLS" in trouble(server, "tls").reason


def test_a_missing_file_of_authorities_names_the_file() -> None:
    with SmtpServer() as server:
        found = trouble(server, "tls", Path("/nowhere/ca.pem"))
    assert found.permanent
    assert "/nowhere/ca.pem" in found.reason
    assert server.connections == 0


def test_a_rejected_password_is_permanent_and_not_in_the_text() -> None:
    with SmtpServer(Offers(users=USERS)) as server:
        found = trouble(server, user="crew", password="wrong-one")
    assert found.permanent
    assert found.code == 535
    assert "password" in found.reason
    assert "wrong-one" not in found.reason
    assert "s3cret" not in repr(ServerAddress("h", 25, password="s3cret"))


def test_a_login_where_none_is_offered_is_permanent() -> None:
    with SmtpServer() as server:
        found = trouble(server, user="crew", password="s3cret")
    assert found.permanent
    assert "AUTH" in found.reason


def test_a_password_that_auth_cannot_carry_is_permanent() -> None:
    with SmtpServer(Offers(users=USERS)) as server:
        assert trouble(server, user="crew", password="пароль").permanent


@pytest.mark.parametrize(
    ("plan", "permanent", "words"),
    [
        (on("CONNECT", reply("554 5.7.1 go away")), True, "554 5.7.1 go away"),
        (on("CONNECT", reply("421 4.3.2 too many")), False, "421 4.3.2 too many"),
        (on("CONNECT", reply("hello there")), False, "does not speak SMTP"),
        (on("CONNECT", drop()), False, "closed"),
        (on("CONNECT", silent()), False, "silent"),
        (on("EHLO", drop()), False, "closed"),
        (on("EHLO", silent()), False, "silent"),
        (on("AUTH", reply("454 4.7.0 later")), False, "454 4.7.0 later"),
        (on("AUTH", drop()), False, "closed"),
        (on("AUTH", Fault(raw=b"334 a\r\n")), False, "127.0.0.1"),
    ],
)
def test_a_failed_opening_says_why_and_whether_to_try_again(plan: Plan, permanent: bool, words: str) -> None:
    with SmtpServer(Offers(users=USERS), plan=plan) as server:
        timeouts = SHORT if words == "silent" else Timeouts()
        found = trouble(server, user="crew", password="s3cret", timeouts=timeouts)
    assert found.permanent is permanent
    assert words in found.reason


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that is ours and refuses connections: bound, and nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def test_a_refused_connection_and_an_unknown_name_may_be_tried_again(closed_port: int) -> None:
    for address in (ServerAddress("127.0.0.1", closed_port), ServerAddress("nobody.invalid", 25)):
        with pytest.raises(ProviderTrouble) as raised:
            Connection.open(address, local_hostname="client.example")
        assert not raised.value.permanent
        assert address.host in raised.value.reason


def test_a_server_that_only_knows_helo_is_served_without_extensions() -> None:
    with SmtpServer(Offers(esmtp=False, pipelining=False, size=None)) as server:
        send_two(connect(server))
    assert server.counts() == {"a@example.org": 1, "b@example.org": 1}
    assert server.violations == []


def test_another_thread_can_give_up_an_opening_that_hangs() -> None:
    made: list[Connection] = []
    hanging = threading.Event()

    def plan(event: object) -> Fault:
        hanging.set()
        return silent()

    def abort() -> None:
        hanging.wait(60)
        made[0].abort()

    started = time.monotonic()
    with SmtpServer(plan=plan) as server:
        thread = threading.Thread(target=abort)
        thread.start()
        with pytest.raises(ProviderTrouble, match="given up by us"):
            Connection.open(ServerAddress("127.0.0.1", server.port), local_hostname="c.example", announce=made.append)
        thread.join()
    assert time.monotonic() - started < 100
    assert made[0].deadline > time.monotonic() + 100


def test_an_opening_given_up_before_it_began_never_logs_in() -> None:
    with SmtpServer(Offers(users=USERS)) as server:
        address = ServerAddress("127.0.0.1", server.port, username="crew", password="s3cret")
        with pytest.raises(ProviderTrouble, match="given up by us"):
            Connection.open(address, local_hostname="c.example", announce=Connection.abort)
    assert server.said() == []

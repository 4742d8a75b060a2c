"""Mails over one connection: pipelined and plain, refusals, limits of the server, the caller's mistakes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.mail.transport import Connection, Envelope, Kind, Opened, Outcome, ServerAddress, Timeouts
from tests.smtp_faults import Fault, delayed, first_of, make_certificates, on, reply
from tests.smtp_server import Offers, SmtpServer

PATIENT = Timeouts(connect=60, command=60, data=60, block=60, final=60, quit=0.2)
CONTENT = b"Subject: hello\r\n\r\nworld\r\n"
SENDER = "bounces@example.org"


def connect(server: SmtpServer, timeouts: Timeouts = PATIENT) -> Connection:
    return Connection.open(ServerAddress("127.0.0.1", server.port), timeouts=timeouts, local_hostname="c.example")


def to(name: str, size: int | None = None) -> Envelope:
    return Envelope(SENDER, f"{name}@example.org", size=size)


def send_all(connection: Connection, names: str, content: bytes = CONTENT) -> dict[str, Outcome]:
    """Send a mail to each letter's address the way a worker does: refused ones are begun past."""
    outcomes: dict[str, Outcome] = {}
    opened: Opened | None = None
    for name, following in zip(names, [*names[1:], None], strict=True):
        opened = opened or connection.begin(to(name))
        if opened.outcome:
            outcomes[name], opened = opened.outcome, None
            continue
        connection.send(content, to(following) if following else None)
        outcomes[name], opened = connection.finish()
    return outcomes


def kinds(outcomes: dict[str, Outcome]) -> dict[str, Kind]:
    return {name: outcome.kind for name, outcome in outcomes.items()}


def eventually(true: Callable[[], bool], seconds: float = 60) -> bool:
    """Ask again and again, without sleeping, until it is so."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
    return True


@pytest.fixture(params=[True, False], ids=["pipelined", "plain"])
def offers(request: pytest.FixtureRequest) -> Offers:
    return Offers(pipelining=request.param)


@pytest.fixture
def server(offers: Offers) -> Iterator[SmtpServer]:
    with SmtpServer(offers) as made:
        yield made
    assert made.violations == []


def test_each_mail_arrives_once_and_whole(server: SmtpServer) -> None:
    content = CONTENT + b"..a stuffed line\r\n" + b"x" * 998 + b"\r\n"
    connection = connect(server)
    outcomes = send_all(connection, "abcdefgh", content)
    connection.close()
    assert server.wait_until_left()
    assert set(kinds(outcomes).values()) == {Kind.ACCEPTED}
    assert str(outcomes["a"].reply) == "250 2.0.0 queued"
    assert server.counts() == {f"{name}@example.org": 1 for name in "abcdefgh"}
    assert {mail.content for mail in server.mails} == {content.replace(b"\r\n..a", b"\r\n.a")}
    assert {mail.sender for mail in server.mails} == {SENDER}
    assert server.connections == 1
    assert server.said()[-1] == "QUIT"


def test_a_caller_may_work_between_send_and_finish(server: SmtpServer) -> None:
    connection = connect(server)
    connection.begin(to("a"))
    connection.send(CONTENT, to("b"))
    assert server.wait_for(mails=1)
    assert connection.usable
    assert connection.finish()[0].kind is Kind.ACCEPTED


@pytest.mark.parametrize(
    ("verb", "text", "kind"),
    [
        ("RCPT", "550 5.1.1 no such user", Kind.RECIPIENT_REFUSED),
        ("RCPT", "450 4.2.1 busy", Kind.RECIPIENT_LATER),
        ("DOT", "554 5.7.1 spam", Kind.RECIPIENT_REFUSED),
        ("DOT", "451 4.7.1 greylisted", Kind.RECIPIENT_LATER),
        ("MAIL", "451 4.3.0 later", Kind.PROVIDER),
        ("MAIL", "550 5.7.1 sender refused", Kind.PROVIDER),
        ("DATA", "451 4.3.0 later", Kind.PROVIDER),
        ("DATA", "554 5.5.1 no", Kind.PROVIDER),
    ],
)
def test_one_refused_mail_leaves_its_neighbours_and_the_connection_alone(
    verb: str, text: str, kind: Kind, offers: Offers
) -> None:
    with SmtpServer(offers, plan=on(verb, reply(text), count=2)) as server:  # type: ignore[arg-type]
        connection = connect(server)
        outcomes = send_all(connection, "abcd")
        connection.close()
    expected = dict.fromkeys("abcd", Kind.ACCEPTED) | {"b": kind}
    assert kinds(outcomes) == expected
    assert text in outcomes["b"].reason
    assert str(outcomes["b"].reply) == text
    assert outcomes["b"].permanent is (kind is Kind.PROVIDER and text.startswith("5"))
    assert server.counts() == {f"{name}@example.org": 1 for name in "acd"}
    assert (server.connections, server.violations) == (1, [])
    assert server.said().count("RSET") == (verb != "DOT")


def test_many_refusals_in_a_row_are_each_told(offers: Offers) -> None:
    with SmtpServer(offers, plan=on("RCPT", reply("550 5.1.1 no"))) as server:
        connection = connect(server)
        assert set(kinds(send_all(connection, "abcde")).values()) == {Kind.RECIPIENT_REFUSED}
        connection.close()
    assert (server.mails, server.violations) == ([], [])


def test_content_and_the_next_envelope_are_one_flight_only_where_the_server_allows_it(
    offers: Offers,
) -> None:
    with SmtpServer(offers, plan=on("DOT", delayed(0.1))) as server:
        connection = connect(server)
        connection.begin(to("a"))
        connection.send(CONTENT, to("b"))
        connection.finish()
        connection.close()
    assert connection.pipelining is offers.pipelining
    assert server.violations == []


@pytest.mark.parametrize("pieces", [1, 2, 7])
def test_replies_split_at_any_byte_and_of_many_lines_are_read(pieces: int, offers: Offers) -> None:
    plan = first_of(
        on("DOT", Fault(reply="250-2.0.0 one\r\n250-2.0.0 two\r\n250 2.0.0 queued", pieces=pieces)),
        on("RCPT", Fault(reply="251-2.1.5 will\r\n251 2.1.5 forward", pieces=pieces)),
        lambda _: Fault(pieces=pieces),
    )
    with SmtpServer(offers, plan=plan) as server:
        connection = connect(server)
        outcomes = send_all(connection, "abc")
        connection.close()
    assert [str(one.reply) for one in outcomes.values()] == ["250 2.0.0 one 2.0.0 two 2.0.0 queued"] * 3


def test_international_addresses_go_out_with_smtputf8(server: SmtpServer) -> None:
    connection = connect(server)
    envelope = Envelope(SENDER, "почта@пример.example", smtputf8=True)
    assert connection.begin(envelope).ready
    connection.send(CONTENT + "привет\r\n".encode())
    assert connection.finish()[0].kind is Kind.ACCEPTED
    assert server.mails[0].recipients == ("почта@пример.example",)
    assert set(server.mails[0].parameters) == {"BODY=8BITMIME", "SMTPUTF8"}


def test_without_smtputf8_an_international_mail_is_refused_without_asking() -> None:
    with SmtpServer(Offers(smtputf8=False)) as server:
        connection = connect(server)
        envelope = Envelope(SENDER, "почта@пример.example", smtputf8=True)
        assert connection.begin(to("a")).ready
        connection.send(CONTENT, envelope)
        outcome, opened = connection.finish()
        again = connection.begin(envelope)
        assert kinds(send_all(connection, "b")) == {"b": Kind.ACCEPTED}
        connection.close()
    assert outcome.kind is Kind.ACCEPTED
    assert opened == again
    assert opened
    assert opened.outcome
    assert opened.outcome.kind is Kind.RECIPIENT_REFUSED
    assert "SMTPUTF8" in opened.outcome.reason
    assert len([line for line in server.said() if line.startswith("MAIL")]) == 2


def test_the_size_is_told_and_a_mail_above_the_limit_is_refused_without_asking() -> None:
    with SmtpServer(Offers(size=1000)) as server:
        connection = connect(server)
        too_big = connection.begin(to("a", size=1001))
        assert connection.begin(to("b", size=1000)).ready
        connection.send(CONTENT)
        connection.finish()
        connection.close()
    assert too_big.outcome
    assert too_big.outcome.kind is Kind.RECIPIENT_REFUSED
    assert "1001 bytes" in too_big.outcome.reason
    assert server.mails[0].parameters == ("SIZE=1000",)


def test_no_size_is_told_to_a_server_that_did_not_ask() -> None:
    with SmtpServer(Offers(size=None)) as server:
        connection = connect(server)
        connection.begin(to("a", size=10**9))
        connection.send(CONTENT)
        connection.finish()
    assert server.mails[0].parameters == ()


@pytest.mark.parametrize("address", ["a\r\nDATA@x", "a\n@x", "a b@x", "<a@x", "a@x>", "a\x00@x", "a\x7f@x", "é@x", ""])
def test_an_address_that_could_break_out_of_its_command_raises_before_a_byte_is_sent(
    address: str, server: SmtpServer
) -> None:
    connection = connect(server)
    with pytest.raises(ValueError, match=r"address|ascii"):
        connection.begin(Envelope(SENDER, address))
    assert connection.begin(to("a")).ready
    with pytest.raises(ValueError, match=r"address|ascii"):
        connection.send(CONTENT, Envelope(SENDER, address))
    connection.send(CONTENT, Envelope("", "b@example.org"))
    outcome, opened = connection.finish()
    assert (outcome.kind, opened and opened.ready) == (Kind.ACCEPTED, True)


@pytest.mark.parametrize("content", [b"", b"no end", b".\r\n", b"a\r\n.\r\nMAIL FROM:<x@y>\r\n"])
def test_a_content_that_would_end_early_is_never_sent(content: bytes, server: SmtpServer) -> None:
    connection = connect(server)
    connection.begin(to("a"))
    with pytest.raises(ValueError, match="content"):
        connection.send(content)
    connection.close()
    assert server.wait_until_left()
    assert server.mails == []


def test_calls_out_of_order_are_the_caller_s_mistake(server: SmtpServer) -> None:
    connection = connect(server)
    with pytest.raises(RuntimeError):
        connection.send(CONTENT)
    with pytest.raises(RuntimeError):
        connection.finish()
    connection.begin(to("a"))
    with pytest.raises(RuntimeError):
        connection.begin(to("b"))


def test_giving_up_a_begun_mail_hangs_up_without_a_dot_or_quit(server: SmtpServer) -> None:
    connection = connect(server)
    assert connection.begin(to("a")).ready
    connection.close()
    assert not connection.usable
    assert server.wait_until_left()
    assert (server.mails, server.abandoned) == ([], [b""])
    assert server.said()[-1] == "DATA"


def test_a_content_larger_than_every_buffer_arrives_through_tls_and_without(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path)
    content = CONTENT + (b"y" * 98 + b"\r\n") * 60_000
    for tls in ("none", "tls"):
        with SmtpServer(Offers(tls=tls, size=None), certificates=certificates) as server:
            address = ServerAddress("127.0.0.1", server.port, tls, str(certificates.authority))
            connection = Connection.open(address, timeouts=PATIENT, local_hostname="c.example")
            assert set(kinds(send_all(connection, "ab", content)).values()) == {Kind.ACCEPTED}
            assert connection._line.half_taken == 0
            connection.close()
        assert [mail.content == content for mail in server.mails] == [True, True]
        assert server.violations == []


def test_another_thread_can_cut_off_a_wait_for_the_final_reply() -> None:
    with SmtpServer(plan=on("DOT", Fault(silent=True))) as server:
        connection = connect(server, Timeouts())
        connection.begin(to("a"))
        connection.send(CONTENT)
        assert connection.deadline > time.monotonic() + 590
        threading.Thread(target=connection.abort).start()
        outcome, _ = connection.finish()
    assert outcome.kind is Kind.IN_DOUBT
    assert "cut off by us" in outcome.reason
    assert not connection.usable


def test_progress_and_the_allowed_wait_follow_the_dialogue() -> None:
    with SmtpServer() as server:
        connection = connect(server, Timeouts())
        connection.begin(to("a"))
        before = connection.progress
        connection.send(CONTENT)
        assert (connection.progress >= before, connection.allowed) == (True, 600)
        connection.finish()
        assert connection.progress > before
        assert connection.begin(to("b")).ready
        assert connection.allowed <= 300

"""The line breaks, or the server says the wrong thing, at every point: what the mails' outcomes are."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from app.mail.transport import Connection, Envelope, Kind, ServerAddress, Timeouts
from tests.smtp_faults import Fault, Plan, Verb, drop, drop_after, make_certificates, on, reply, silent
from tests.smtp_server import Offers, SmtpServer
from tests.test_transport import CONTENT, PATIENT, SENDER, connect, eventually, kinds, send_all, to

#: Where the server is silent on purpose. Elsewhere PATIENT: this process may stand still for a while itself.
QUICK = Timeouts(connect=5, command=1, data=1, block=1, final=1, quit=1)
BIG = CONTENT + (b"y" * 98 + b"\r\n") * 120_000
LONG = "x" * 5000

OK, DOUBT, TROUBLE = Kind.ACCEPTED, Kind.IN_DOUBT, Kind.PROVIDER
REFUSED, LATER = Kind.RECIPIENT_REFUSED, Kind.RECIPIENT_LATER

#: (what the server does at the second mail's verb, outcomes of mails a, b and c, how many of b arrived).
#: b is opened in a's flight and c in b's; after a broken line c is not tried again here.
AT_SECOND: list[tuple[Verb, Fault, tuple[Kind, Kind, Kind], int]] = [
    ("MAIL", drop(), (OK, TROUBLE, TROUBLE), 0),
    ("MAIL", drop(reset=True), (OK, TROUBLE, TROUBLE), 0),
    ("MAIL", silent(), (OK, TROUBLE, TROUBLE), 0),
    ("MAIL", reply("421 4.3.2 closing"), (OK, TROUBLE, TROUBLE), 0),
    ("MAIL", reply("what"), (OK, TROUBLE, TROUBLE), 0),
    ("MAIL", reply(f"250 {LONG}"), (OK, TROUBLE, TROUBLE), 0),
    ("RCPT", drop(), (OK, TROUBLE, TROUBLE), 0),
    ("RCPT", silent(), (OK, TROUBLE, TROUBLE), 0),
    ("RCPT", reply("421 4.3.2 closing"), (OK, TROUBLE, TROUBLE), 0),
    ("RCPT", drop_after("550 5.1.1 no"), (OK, REFUSED, TROUBLE), 0),
    ("RCPT", reply("garbage"), (OK, TROUBLE, TROUBLE), 0),
    ("DATA", drop(), (OK, TROUBLE, TROUBLE), 0),
    ("DATA", silent(), (OK, TROUBLE, TROUBLE), 0),
    ("DATA", reply("421 4.3.2 closing"), (OK, TROUBLE, TROUBLE), 0),
    ("DATA", reply("250 what"), (OK, TROUBLE, TROUBLE), 0),
    ("DATA", Fault(then=b"250 one more\r\n"), (OK, TROUBLE, TROUBLE), 0),
    ("DOT", drop(), (OK, DOUBT, TROUBLE), 0),
    ("DOT", drop(reset=True), (OK, DOUBT, TROUBLE), 0),
    ("DOT", drop(accept=True), (OK, DOUBT, TROUBLE), 1),
    ("DOT", silent(), (OK, DOUBT, TROUBLE), 0),
    ("DOT", silent(accept=True), (OK, DOUBT, TROUBLE), 1),
    ("DOT", reply("421 4.3.2 closing"), (OK, TROUBLE, TROUBLE), 0),
    ("DOT", drop_after("421 4.3.2 closing"), (OK, TROUBLE, TROUBLE), 0),
    ("DOT", Fault(raw=b"25", drop="after", accept=True), (OK, DOUBT, TROUBLE), 1),
    ("DOT", Fault(raw=b"garbage\r\n", accept=True), (OK, DOUBT, TROUBLE), 1),
    ("DOT", Fault(raw=f"250 {LONG}\r\n".encode()), (OK, DOUBT, TROUBLE), 1),
    ("DOT", reply("354 again"), (OK, DOUBT, TROUBLE), 0),
    ("DOT", drop_after(), (OK, OK, TROUBLE), 1),
    ("DOT", drop_after("451 4.7.1 later"), (OK, LATER, TROUBLE), 0),
    ("DOT", drop_after("554 5.7.1 spam"), (OK, REFUSED, TROUBLE), 0),
    ("DOT", Fault(then=b"421 4.3.2 closing\r\n", drop="after"), (OK, OK, TROUBLE), 1),
    # Gone with the whole small mail in its kernel: from here that looks like gone after the dot.
    ("CONTENT", Fault(after_bytes=1), (OK, DOUBT, TROUBLE), 0),
]


@pytest.mark.parametrize("pipelining", [True, False], ids=["pipelined", "plain"])
@pytest.mark.parametrize(("verb", "fault", "expected", "arrived"), AT_SECOND)
def test_every_fault_at_every_step_has_its_outcome(
    verb: Verb, fault: Fault, expected: tuple[Kind, Kind, Kind], arrived: int, pipelining: bool
) -> None:
    with SmtpServer(Offers(pipelining=pipelining), plan=on(verb, fault, count=2)) as server:
        connection = connect(server, QUICK if fault.silent else PATIENT)
        outcomes = send_all(connection, "abc")
        assert not connection.usable
        connection.close()
    assert tuple(kinds(outcomes).values()) == expected
    assert all(outcome.reason for outcome in outcomes.values() if outcome.kind is not OK)
    assert not any(outcome.permanent for outcome in outcomes.values())
    assert server.counts()["b@example.org"] == arrived
    assert "RSET" not in server.said()
    assert "QUIT" not in server.said()


@pytest.mark.parametrize("pipelining", [True, False], ids=["pipelined", "plain"])
def test_an_unwanted_354_closes_the_line_and_no_empty_mail_is_made(pipelining: bool) -> None:
    def plan(event: object) -> Fault | None:
        return on("RCPT", reply("550 5.1.1 no"))(event) or on("DATA", reply("354 go"))(event)  # type: ignore[arg-type]

    with SmtpServer(Offers(pipelining=pipelining), plan=plan) as server:
        connection = connect(server)
        opened = connection.begin(to("a"))
        assert connection.usable is not pipelining
        connection.close()
        assert server.wait_until_left()
    assert opened.outcome
    assert opened.outcome.kind is REFUSED
    assert server.mails == []
    assert ("QUIT" in server.said()) is not pipelining


@pytest.mark.parametrize("tls", ["none", "tls"])
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(after_bytes=20_000), "clos|reset"),
        (Fault(after_bytes=20_000, reset=True), "clos|reset"),
        (Fault(after_bytes=1, raw=b"421 4.3.2 shutting down\r\n"), "421 4.3.2 shutting down"),
        (Fault(slow=30), "took nothing for 0.2 seconds"),
    ],
)
def test_a_mail_whose_end_never_left_is_deferred_and_never_in_doubt(
    fault: Fault, words: str, tls: str, tmp_path: Path
) -> None:
    certificates = make_certificates(tmp_path)
    offers = Offers(size=None, tls=tls)  # type: ignore[arg-type]
    with SmtpServer(offers, plan=on("CONTENT", fault), certificates=certificates) as server:
        address = ServerAddress("127.0.0.1", server.port, tls, str(certificates.authority))  # type: ignore[arg-type]
        connection = Connection.open(address, timeouts=replace(PATIENT, block=0.2), local_hostname="c.example")
        assert connection.begin(to("a")).ready
        connection.send(BIG, to("b"))
        outcome, opened = connection.finish()
    assert (outcome.kind, server.mails) == (TROUBLE, [])
    assert re.search(words, outcome.reason)
    if fault.slow:
        # OpenSSL holds a record of which a part may be out; a plain socket knows to the byte.
        assert (connection._line.half_taken > 0) is (tls == "tls")
    assert opened
    assert opened.outcome
    assert opened.outcome.kind is TROUBLE


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("552 5.3.4 too big", REFUSED),
        ("451 4.3.1 disk full", LATER),
        ("421 4.3.2 closing", TROUBLE),
        ("250 2.0.0 already", TROUBLE),
    ],
)
def test_an_answer_before_the_mail_is_out_ends_the_line_and_is_never_an_acceptance(said: str, kind: Kind) -> None:
    fault = Fault(raw=f"{said}\r\n".encode(), slow=0.01)
    with SmtpServer(Offers(size=None), plan=on("CONTENT", fault)) as server:
        connection = connect(server)
        connection.begin(to("a"))
        connection.send(BIG)
        outcome, _ = connection.finish()
    assert (outcome.kind, connection.usable, server.mails) == (kind, False, [])
    assert said in outcome.reason


def test_replies_that_pile_up_while_we_write_do_not_block_either_side() -> None:
    # 8 MB of replies fill every buffer between us: who does not read while writing stands still.
    noise = b"250-" + b"n" * 996 + b"\r\n"
    fault = Fault(raw=noise * 8000, slow=0.001)
    with SmtpServer(Offers(size=None), plan=on("CONTENT", fault)) as server:
        connection = connect(server)
        connection.begin(to("a"))
        connection.send(BIG)
        outcome, _ = connection.finish()
    assert (outcome.kind, server.mails) == (TROUBLE, [])


def test_a_server_that_reads_a_byte_at_a_time_for_a_while_gets_its_mail() -> None:
    with SmtpServer(plan=on("CONTENT", Fault(slow=0.002, fast_after=200))) as server:
        connection = connect(server)
        assert kinds(send_all(connection, "ab", BIG[: len(CONTENT) + 400_000])) == {"a": OK, "b": OK}
    assert server.counts() == {"a@example.org": 1, "b@example.org": 1}


def test_dribbled_bytes_do_not_extend_the_wait_for_a_reply() -> None:
    with SmtpServer(plan=on("DOT", Fault(raw=b"250-x\r\n", then=b"250-x\r\n" * 3, later=0.15))) as server:
        connection = connect(server, replace(PATIENT, final=0.2))
        connection.begin(to("a"))
        connection.send(CONTENT)
        outcome, _ = connection.finish()
    assert outcome.kind is DOUBT
    assert "no reply within 0.2 seconds" in outcome.reason


@pytest.mark.parametrize(
    ("then", "words"),
    [
        (b"421 4.4.2 idle too long\r\n", "421 4.4.2 idle too long"),
        (b"", "closed"),
        (b"250 sorry, wrong window\r\n", "unasked"),
    ],
)
def test_an_idle_line_that_ended_meanwhile_is_not_usable(then: bytes, words: str) -> None:
    plan: Plan = on("DOT", Fault(then=then, later=0.05, drop="after"))
    with SmtpServer(plan=plan) as server:
        connection = connect(server)
        assert kinds(send_all(connection, "a")) == {"a": OK}
        assert eventually(lambda: not connection.usable)
        opened = connection.begin(to("b"))
    assert opened.outcome
    assert opened.outcome.kind is TROUBLE
    assert words in opened.outcome.reason
    assert "b@example.org" not in str(server.said())


@pytest.mark.parametrize("then", [b"421 4.4.2 too slow\r\n", b""])
def test_a_server_that_left_while_the_mail_was_composed_cannot_have_it(then: bytes) -> None:
    with SmtpServer(plan=on("DATA", Fault(then=then, later=0.05, drop="after"))) as server:
        connection = connect(server)
        assert connection.begin(to("a")).ready
        assert server.wait_until_left()
        connection.send(CONTENT, Envelope(SENDER, "b@example.org"))
        outcome, opened = connection.finish()
    assert outcome.kind is TROUBLE
    assert opened
    assert opened.outcome
    assert opened.outcome.kind is TROUBLE
    assert then.decode().strip() in outcome.reason

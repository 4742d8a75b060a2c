"""The catcher: what it accepts is in the file before its 250, byte for byte, and can be counted."""

from __future__ import annotations

import os
import signal
import smtplib
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from email.message import EmailMessage
from io import BufferedRWPair
from pathlib import Path

import pytest

from app.config import ROOT
from app.mail.caught import CaughtMail, CaughtMailWriter, Verdict, headers_of, verdict
from tests.working import eventually


class Running:
    """A bin/catcher of its own home."""

    def __init__(self, home: Path) -> None:
        self.home, self.database = home, home / "catcher.db"
        self.start()

    def start(self, *arguments: str) -> None:
        (self.home / "run").mkdir(parents=True, exist_ok=True)
        environ = {**os.environ, "MAILCREW_HOME": str(self.home)}
        self.process = subprocess.Popen(
            [sys.executable, ROOT / "bin" / "catcher", *arguments], env=environ, text=True, stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        self.said = self.process.stdout.readline()
        assert self.said.startswith("catching on 127.0.0.1:")

    @property
    def port(self) -> int:
        return int((self.home / "run" / "catcher.port").read_text())

    def smtp(self) -> smtplib.SMTP:
        return smtplib.SMTP("127.0.0.1", self.port, local_hostname="test", timeout=60)

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        self.process.communicate(timeout=60)
        return self.process.returncode


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(tmp_path_factory.mktemp("catcher"))
    yield running
    running.stop()


def mail(campaign: str, key: str = "k", body: str = "Hello\r\n") -> bytes:
    return f"X-Mailcrew-Campaign: {campaign}.{key}\r\nMessage-ID: <{campaign}@x>\r\n\r\n{body}".encode()


def contents(path: Path, campaign: str) -> list[bytes]:
    db = sqlite3.connect(path)
    rows = db.execute("SELECT content FROM mail WHERE campaign LIKE ? ORDER BY id", (f"{campaign}.%",)).fetchall()
    db.close()
    return [row[0] for row in rows]


def test_it_offers_what_our_transport_uses(shared: Running) -> None:
    with shared.smtp() as smtp:
        smtp.ehlo()

        assert all(smtp.has_extn(name) for name in ("pipelining", "8bitmime", "smtputf8", "size"))


def test_a_mail_is_kept_with_its_envelope_and_decoded_headers(shared: Running) -> None:
    message = EmailMessage()
    message["Subject"] = "Grüße aus Köln, eine lange Betreffzeile, die gefaltet werden muss, weil sie so lang ist"
    message["Message-ID"] = "<one@example.org>"
    message["X-Mailcrew-Campaign"] = "1.abc"
    message.set_content("Hällo")

    with shared.smtp() as smtp:
        smtp.send_message(message, "from@example.org", ["a@example.org", "b@example.org"])

    db = sqlite3.connect(shared.database)
    row = db.execute("SELECT envelope_from, message_id, subject, campaign, size FROM mail WHERE campaign = '1.abc'")
    sender, message_id, subject, campaign, size = row.fetchone()
    db.close()
    assert (sender, message_id, subject, campaign) == (
        "from@example.org", "<one@example.org>", message["Subject"], "1.abc",
    )  # fmt: skip
    assert size == len(contents(shared.database, "1")[0])
    assert CaughtMail(shared.database).recipients("1") == ["a@example.org", "b@example.org"]
    assert CaughtMail(shared.database).count("<one@%") == 1


@pytest.mark.parametrize(
    ("number", "body"),
    [
        (20, ".\r\nafter a dot\r\n"),
        (21, "..two dots\r\n. \r\n"),
        (22, "ends in a dot.\r\nand again.\r\n"),
        (23, "bare \n.\n newlines\r\n"),
        (24, "\r\n\r\n"),
        (25, "x" * 200_000 + "\r\n"),
        (26, "8 bit: äöü\r\n"),
        (27, ""),
    ],
)
def test_what_was_sent_is_kept_byte_for_byte(shared: Running, number: int, body: str) -> None:
    sent = mail(str(number), body=body)

    with socket.create_connection(("127.0.0.1", shared.port), 10) as raw, raw.makefile("rwb") as line:
        say(line, b"", 220)
        say(line, b"EHLO x", 250)
        say(line, b"MAIL FROM:<a@x.org> BODY=8BITMIME", 250)
        say(line, b"RCPT TO:<b@x.org>", 250)
        say(line, b"DATA", 354)
        say(line, stuff(sent) + b".", 250)

    assert contents(shared.database, str(number)) == [sent]


def test_an_empty_mail_is_kept_as_an_empty_mail(shared: Running) -> None:
    before = CaughtMail(shared.database).count("")

    with socket.create_connection(("127.0.0.1", shared.port), 10) as raw, raw.makefile("rwb") as line:
        say(line, b"", 220)
        for command, code in ((b"EHLO x", 250), (b"MAIL FROM:<>", 250), (b"RCPT TO:<b@x.org>", 250), (b"DATA", 354)):
            say(line, command, code)
        say(line, b".", 250)

    assert CaughtMail(shared.database).count("") == before + 1


def test_contents_and_the_next_commands_in_one_flight_are_all_answered(shared: Running) -> None:
    envelope = b"MAIL FROM:<a@x.org>\r\nRCPT TO:<b%d@x.org>\r\nDATA\r\n"
    with socket.create_connection(("127.0.0.1", shared.port), 10) as raw, raw.makefile("rwb") as line:
        say(line, b"", 220)
        say(line, b"EHLO x", 250)
        flights = b"".join(envelope % n + mail("30", body=f"{n}.\r\n") + b".\r\n" for n in range(50))
        line.write(flights + b"QUIT\r\n")
        line.flush()
        replies = [reply[:3] for reply in line.read().splitlines()]

    assert replies == [b"250", b"250", b"354", b"250"] * 50 + [b"221"]
    assert verdict(shared.database, "30") == Verdict(50, 50, ())


def test_a_mail_that_was_answered_survives_a_kill(tmp_path: Path) -> None:
    running = Running(tmp_path)
    with running.smtp() as smtp:
        smtp.sendmail("a@x.org", ["b@x.org"], mail("1"))
        running.stop(signal.SIGKILL)
        smtp.close()

    assert verdict(running.database, "1") == Verdict(1, 1, ())


def test_the_port_stays_the_same_after_a_restart(tmp_path: Path) -> None:
    running = Running(tmp_path)
    first = running.port

    assert running.stop() == 0
    running.start()

    assert running.port == first
    running.stop()


def test_two_homes_get_different_ports_even_when_one_remembers_the_others(tmp_path: Path) -> None:
    one = Running(tmp_path / "one")
    (tmp_path / "two" / "run").mkdir(parents=True)
    (tmp_path / "two" / "run" / "catcher.port").write_text(f"{one.port}\n")

    other = Running(tmp_path / "two")

    assert other.port != one.port
    one.stop()
    other.stop()


def test_a_port_that_was_asked_for_and_is_taken_is_an_error(shared: Running) -> None:
    environ = {**os.environ, "MAILCREW_HOME": str(shared.home)}
    command = [sys.executable, str(ROOT / "bin" / "catcher"), "--port", str(shared.port)]

    said = subprocess.run(command, env=environ, text=True, capture_output=True)

    assert said.returncode == 1
    assert f"cannot listen on 127.0.0.1:{shared.port}" in said.stderr


@pytest.mark.parametrize("port", ["abc", "70000", "-1"])
def test_a_port_in_the_environment_that_is_none_is_named_with_its_variable(tmp_path: Path, port: str) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "bin" / "catcher"], capture_output=True, text=True, timeout=100,
        env={**os.environ, "MAILCREW_HOME": str(tmp_path), "MAILCREW_CATCHER_PORT": port},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"catcher: MAILCREW_CATCHER_PORT='{port}' is not allowed: a port from 1 to 65535")
    assert len(done.stderr.splitlines()) == 1


def test_the_verdict_names_who_got_it_twice_and_counts_no_other_campaign(tmp_path: Path) -> None:
    running = Running(tmp_path)
    with running.smtp() as smtp:
        for campaign, address in (("7", "a"), ("7", "b"), ("7", "a"), ("70", "a"), ("8", "c")):
            smtp.sendmail("from@x.org", [f"{address}@x.org"], mail(campaign))
    running.stop()

    assert verdict(tmp_path / "catcher.db", "7") == Verdict(3, 2, (("a@x.org", 2),))
    assert verdict(tmp_path / "catcher.db", "7.k").mails == 3
    assert verdict(tmp_path / "catcher.db", "9") == Verdict(0, 0, ())


def test_before_the_first_mail_the_verdict_is_nothing(tmp_path: Path) -> None:
    assert verdict(tmp_path / "absent.db", "7") == Verdict(0, 0, ())
    CaughtMailWriter(tmp_path / "empty.db").close()
    assert verdict(tmp_path / "empty.db", "7") == Verdict(0, 0, ())


def test_a_mail_that_could_not_be_kept_is_not_promised(tmp_path: Path) -> None:
    running = Running(tmp_path)
    db = sqlite3.connect(running.database, isolation_level=None)
    db.execute("ALTER TABLE rcpt RENAME TO elsewhere")

    with running.smtp() as smtp, pytest.raises(smtplib.SMTPDataError) as raised:
        smtp.sendmail("a@x.org", ["b@x.org"], mail("1"))

    assert raised.value.smtp_code == 451
    db.execute("ALTER TABLE elsewhere RENAME TO rcpt")
    db.close()
    with running.smtp() as smtp:
        smtp.sendmail("a@x.org", ["b@x.org"], mail("1"))
    assert verdict(running.database, "1") == Verdict(1, 1, ())
    running.stop()


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (b"Subject: a\r\n b\r\nsubject: c\r\n", {"subject": "a b"}),
        (b"SUBJECT:=?utf-8?b?R3LDvMOfZQ==?=\r\n", {"subject": "Grüße"}),
        (b"Subject: =?nosuch?q?x?=\r\n", {"subject": "=?nosuch?q?x?="}),
        (b"Subject: \xff\r\n", {"subject": "\ufffd"}),
        (b"X: y\r\n\r\nSubject: in the body\r\n", {}),
        (b"Message-Id: <a@b>\r\nX-Mailcrew-Campaign: 7.x\r\n", {"message-id": "<a@b>", "x-mailcrew-campaign": "7.x"}),
        (b"", {}),
    ],
)
def test_headers_are_read_as_they_come(head: bytes, found: dict[str, str]) -> None:
    assert headers_of(head) == found


def test_it_stops_while_connections_are_open(tmp_path: Path) -> None:
    running = Running(tmp_path)
    smtp = running.smtp()

    assert running.stop() == 0
    smtp.close()
    eventually(lambda: not Path(f"/proc/{running.process.pid}").exists(), "the end of the catcher")


def stuff(content: bytes) -> bytes:
    """Dot-stuffing (RFC 5321 section 4.5.2): a line is what follows CR LF."""
    return content.replace(b"\r\n.", b"\r\n..")


def say(line: BufferedRWPair, command: bytes, code: int) -> None:
    if command:
        line.write(command + b"\r\n")
        line.flush()
    while (reply := line.readline())[3:4] == b"-":
        pass
    assert reply.startswith(str(code).encode()), reply

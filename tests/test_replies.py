"""SMTP replies: where one ends, and what it means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.mail.channel import Channel
from app.mail.line import Timeouts
from app.mail.replies import (
    MAX_LINE,
    MAX_TEXT,
    BadReply,
    Kind,
    Reply,
    about_content,
    about_recipient,
    about_sender,
    read_reply,
    scan,
)

codes = st.integers(200, 599)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=60)
replies = st.tuples(codes, st.lists(texts, min_size=1, max_size=4))


def spoken(code: int, lines: list[str]) -> bytes:
    marks = ["-"] * (len(lines) - 1) + [" "]
    return b"".join(f"{code}{mark}{line}\r\n".encode() for mark, line in zip(marks, lines, strict=True))


class Segments:
    """A line whose peer sends these segments and then closes."""

    half_taken = 0

    def __init__(self, segments: list[bytes]) -> None:
        self._segments = iter(segments)

    def read(self) -> bytes:
        return next(self._segments, b"")

    def write(self, data: bytes | memoryview) -> int:
        return len(data)

    def read_now(self) -> bytes | None:
        return None

    def wait_for_room(self) -> bool:
        return False

    def close(self) -> None: ...


@given(st.lists(replies.filter(lambda one: one[0] != 421), min_size=1, max_size=5), st.data())
def test_replies_are_the_same_however_their_bytes_are_cut(
    said: list[tuple[int, list[str]]], data: st.DataObject
) -> None:
    stream = b"".join(spoken(*one) for one in said)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=12)))
    segments = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    channel = Channel(Timeouts())
    channel.attach(Segments(segments), b"")
    for one in said:
        assert channel.reply(60) == one[0]
        assert channel.answer == read_reply(spoken(*one))
    assert channel.unread == b""


@given(replies)
def test_a_reply_is_incomplete_at_every_byte_but_its_last(one: tuple[int, list[str]]) -> None:
    raw = spoken(*one)
    assert [scan(raw[:end]) for end in range(len(raw))] == [None] * len(raw)
    assert scan(raw) == (one[0], len(raw))


@given(st.binary(max_size=200))
def test_no_bytes_make_the_scanner_do_anything_but_answer_or_refuse(raw: bytes) -> None:
    try:
        found = scan(raw)
    except BadReply:
        return
    assert found is None or (200 <= found[0] <= 599 and raw[found[1] - 1 : found[1]] == b"\n")


@pytest.mark.parametrize(
    "raw",
    [
        b"hello\r\n",
        b"\r\n",
        b"25\r\n",
        b"2500 ok\r\n",
        b"099 ok\r\n",
        b"600 ok\r\n",
        b"250-one\r\n550 two\r\n",
        b"250 " + b"x" * MAX_LINE,
        b"250-x\r\n" * 20_000,
        b"\x16\x03\x01\x00\n",
    ],
    ids=lambda raw: repr(raw[:20]),
)
def test_what_is_no_reply_is_refused(raw: bytes) -> None:
    with pytest.raises(BadReply):
        scan(raw)


def test_a_bare_code_and_a_bare_line_feed_are_still_a_reply() -> None:
    assert scan(b"250\r\n") == (250, 5)
    assert scan(b"250\n") == (250, 4)
    assert scan(b"250 ok\n") == (250, 7)


def test_a_reply_s_text_is_one_bounded_line_without_control_characters() -> None:
    raw = b"550-5.1.1 no\x1b[31m such\x00user\r\n550 5.1.1 " + b"\xff" + b"y" * 1000 + b"\r\n"
    reply = read_reply(raw)
    assert reply.text.startswith("5.1.1 no [31m such user 5.1.1 �yyy")
    assert len(reply.text) == MAX_TEXT
    assert reply.text.isprintable()


@pytest.mark.parametrize(
    ("code", "kind", "permanent"),
    [
        (450, Kind.RECIPIENT_LATER, False),
        (452, Kind.RECIPIENT_LATER, False),
        (550, Kind.RECIPIENT_REFUSED, False),
        (554, Kind.RECIPIENT_REFUSED, False),
        (421, Kind.PROVIDER, False),
        (530, Kind.PROVIDER, True),
        (535, Kind.PROVIDER, True),
        (354, Kind.PROVIDER, False),
    ],
)
def test_only_what_concerns_the_recipient_counts_against_the_recipient(code: int, kind: Kind, permanent: bool) -> None:
    reply = Reply(code, "no")
    outcome = about_recipient("RCPT", reply)
    assert (outcome.kind, outcome.permanent, outcome.reply) == (kind, permanent, reply)
    assert about_sender("MAIL", reply).kind is Kind.PROVIDER


def test_after_the_dot_only_2xx_accepts_and_an_answer_that_is_none_is_doubt() -> None:
    assert about_content(Reply(250, "ok")).kind is Kind.ACCEPTED
    assert about_content(Reply(354, "go")).kind is Kind.IN_DOUBT
    assert about_content(Reply(451, "x")).kind is Kind.RECIPIENT_LATER
    assert about_content(Reply(552, "x")).kind is Kind.RECIPIENT_REFUSED
    assert about_content(Reply(421, "x")).kind is Kind.PROVIDER

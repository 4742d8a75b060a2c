"""Quoted-printable pieces: exact, short-lined, free of dots, and joinable in any order."""

from __future__ import annotations

import quopri

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.mail.quoted_printable import MAX_LINE, encode

#: Text of the kinds that quoted-printable treats differently, long enough to need soft breaks.
TEXTS = st.one_of(
    st.text(alphabet=st.characters(exclude_categories=["Cs"])),
    st.lists(
        st.sampled_from(["a", "word ", " ", "\t", "\n", "\r\n", "\r", "=", ".", "é", "€", "😀"]), max_size=300
    ).map("".join),
)


def decoded(text: str) -> bytes:
    """What the encoding of a text must decode to."""
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\r\n").encode()


def assert_lines_are_valid(encoded: bytes) -> None:
    for line in encoded.split(b"\r\n"):
        assert len(line) <= MAX_LINE
        assert not line.startswith(b".")
        assert not line.endswith((b" ", b"\t"))
        assert not {*line} - {9, *range(32, 127)}


@given(TEXTS)
def test_a_piece_decodes_to_its_text_in_valid_lines(text: str) -> None:
    encoded = encode(text)
    assert quopri.decodestring(encoded) == decoded(text)
    assert_lines_are_valid(encoded)
    assert not encoded or encoded.endswith(b"\r\n")


@given(st.lists(TEXTS, max_size=5))
def test_pieces_join_to_the_text_joined(texts: list[str]) -> None:
    joined = b"".join(map(encode, texts))
    assert quopri.decodestring(joined) == b"".join(map(decoded, texts))
    assert_lines_are_valid(joined)


@pytest.mark.parametrize("length", range(70, 80))
@pytest.mark.parametrize("end", ["", " ", "\t\n", " \n", "=\n", "é\n", "."])
@pytest.mark.parametrize("start", ["", ".", "...", "\n."])
def test_lines_about_as_long_as_allowed_stay_within_it(start: str, length: int, end: str) -> None:
    text = start + "x" * length + end
    assert quopri.decodestring(encode(text)) == decoded(text)
    assert_lines_are_valid(encode(text))


def test_a_line_of_many_dots_is_hidden_from_smtp() -> None:
    text = "." * 200 + "\n.\n"
    assert quopri.decodestring(encode(text)) == decoded(text)
    assert_lines_are_valid(encode(text))


def test_a_lone_surrogate_becomes_a_question_mark() -> None:
    assert quopri.decodestring(encode("a\ud800b")) == b"a?b"

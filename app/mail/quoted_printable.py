"""Quoted-printable (RFC 2045 §6.7) in pieces that can be put one after the other in any order.

A piece starts at the beginning of a line and leaves the next one at the beginning of a line: when its
text does not end with a line break, a soft one ("=" CRLF, which decodes to nothing) closes it. So no
line grows past 76 characters, no blank stands before a line break, and each piece can be encoded
without knowing its neighbours. No line starts with a dot: a message made of pieces needs no dot
stuffing (RFC 5321 §4.5.2).
"""

from __future__ import annotations

import re
from binascii import b2a_qp

MAX_LINE = 76

# b2a_qp encodes a blank before a line break without asking whether its line still has room for it.
_OVERLONG_LINE = re.compile(rb"^(.{74,})(=20|=09)$", re.MULTILINE)
_DOTTED_LINE = re.compile(rb"^\..*", re.MULTILINE)


def normalise(text: str) -> str:
    """Every line break (CRLF, CR, LF) as one LF."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def encode(text: str) -> bytes:
    """A piece that decodes to `text` in UTF-8 with CRLF line breaks."""
    if _stands_as_it_is(text):  # the usual value, six times as fast as what follows
        return text.encode() + b"=\r\n"
    # A lone surrogate has no UTF-8 (JSON can carry one): it becomes a question mark. The "=" behind the
    # text keeps its last line short enough for a soft break and its last blank from being encoded.
    lines = b2a_qp(normalise(text).encode("utf-8", "replace") + b"=")[:-3]
    if lines and lines[-1] != 0x0A:
        lines += b"=\n"
    if b"=20\n" in lines or b"=09\n" in lines:
        lines = _OVERLONG_LINE.sub(rb"\1=\n\2", lines)
    if lines[:1] == b"." or b"\n." in lines:
        lines = _DOTTED_LINE.sub(_hide_dot, lines)
    return lines.replace(b"\n", b"\r\n")


def _stands_as_it_is(text: str) -> bool:
    fits = text.isascii() and text.isprintable() and 0 < len(text) < MAX_LINE
    return fits and "=" not in text and text[0] != "."


def _hide_dot(match: re.Match[bytes]) -> bytes:
    """The line with its leading dot encoded, in two lines when it would grow too long."""
    line = match[0]
    if len(line) + 2 <= MAX_LINE:
        return b"=2E" + line[1:]
    return b"=2E=\n" + _DOTTED_LINE.sub(_hide_dot, line[1:])

"""Header lines (RFC 5322, RFC 2047) that nothing in a subject, a name or an address can break out of."""

from __future__ import annotations

import re
from base64 import b64encode
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache

import idna

from app.errors import TemplateProblem

#: RFC 5322 §2.1.1: a line should have at most 78 characters and must not have more than 998.
LINE = 78
# 42 bytes are 56 of base64; with "=?utf-8?b?" and "?=" 68: inside RFC 2047's 75, and "Subject: " fits before.
_WORD_BYTES = 42
_LONGEST_WORD = LINE - len("Subject: ")

_CONTROLS = re.compile(r" *[\x00-\x1f\x7f-\x9f\u2028\u2029][\x00-\x20\x7f-\x9f\u2028\u2029]*")
_WORD = re.compile(r" *[^ ]+")
# Dot-atoms only (RFC 5322 §3.2.3, RFC 6532): a quoted local part or a domain literal is refused.
_UNFIT = r"\s\x00-\x1f\x7f-\x9f\ud800-\udfff()<>\[\]:;@\\,\""
_ADDRESS = re.compile(f"[^{_UNFIT}]+@[^{_UNFIT}]+")
# As in our tables. In the longest encoding it still fits a line of 998 (RFC 5322 §2.1.1).
_MAX_ADDRESS = 320


def clean(text: str) -> str:
    """The text in one line: each run of line breaks and other control characters is a single space."""
    return (text if text.isprintable() else _CONTROLS.sub(" ", text)).strip()


def subject_line(subject: str) -> bytes:
    subject = clean(subject)
    if _plain(subject):
        if len(subject) <= _LONGEST_WORD:
            return b"Subject: %b\r\n" % subject.encode("ascii")
        words = _WORD.findall(subject)
        if len(max(words, key=len)) <= _LONGEST_WORD:
            return _fold("Subject:", [" " + words[0], *words[1:]])
    return _fold("Subject:", encoded_words(subject))


def mailbox_line(header: str, name: str, email: str) -> bytes:
    """A From or To line. Raises TemplateProblem for an address that could not stand in it."""
    address = _address(header, email)
    name = clean(name)
    if not name:
        return f"{header}: {address}\r\n".encode()
    if not _plain(name):
        return _fold(f"{header}:", [*encoded_words(name), f" <{address}>"])
    quoted = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if len(header) + len(quoted) + len(address) + 5 <= LINE:
        return f"{header}: {quoted} <{address}>\r\n".encode()
    words = _WORD.findall(quoted)
    if len(max(words, key=len)) > _LONGEST_WORD:
        return _fold(f"{header}:", [*encoded_words(name), f" <{address}>"])
    return _fold(f"{header}:", [" " + words[0], *words[1:], f" <{address}>"])


@lru_cache(maxsize=4)
def date_line(second: int) -> bytes:
    """The Date line of a second since 1970, in UTC (RFC 5322 §3.3)."""
    return f"Date: {format_datetime(datetime.fromtimestamp(second, UTC))}\r\n".encode()


def encoded_words(text: str) -> list[str]:
    """RFC 2047 encoded-words, each with a space before it and whole characters in it (§5)."""
    data = text.encode("utf-8", "replace")
    words = []
    start = 0
    while start < len(data):
        end = min(start + _WORD_BYTES, len(data))
        while end < len(data) and data[end] & 0xC0 == 0x80:
            end -= 1
        words.append(f" =?utf-8?b?{b64encode(data[start:end]).decode()}?=")
        start = end
    return words


def _plain(text: str) -> bool:
    """Whether it may stand in a header as it is, and no reader takes it for an encoded-word."""
    return text.isascii() and "=?" not in text


def _fold(header: str, words: list[str]) -> bytes:
    """The words, each bringing its space, in lines of at most 78 characters where they allow it."""
    lines = [header]
    for word in words:
        if len(lines[-1]) + len(word) > LINE and lines[-1] != header:
            lines.append(word)
        else:
            lines[-1] += word
    return ("\r\n".join(lines) + "\r\n").encode()


def _address(header: str, email: str) -> str:
    """The address with its domain in ASCII (RFC 5890), which every server understands."""
    if len(email) > _MAX_ADDRESS or not _ADDRESS.fullmatch(email):
        raise TemplateProblem(header.lower(), None, f"{email!r} is not an address")
    local, _, domain = email.rpartition("@")
    if domain.isascii():
        return email
    try:
        return f"{local}@{idna.encode(domain, uts46=True).decode()}"
    except idna.IDNAError as error:
        raise TemplateProblem(header.lower(), None, f"{email!r} is not an address: {error}") from error

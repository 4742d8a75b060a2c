"""Addresses: what may be written to, how it goes over the wire, and which spellings are one person."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cache
from types import ModuleType

from app.errors import UsageError

# RFC 5321 §4.5.3.1: 64 octets before the @; a path of 256 octets less its two angle brackets.
LONGEST_LOCAL = 64
LONGEST = 254
# What the database keeps; folding may lengthen an address (İ becomes two characters).
LONGEST_KEY = 320

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
# `1.2.3.4` is an address of a machine, not the name of a domain. A lone label is a typing mistake
# everywhere but on this very machine.
_DOMAIN = rf"(?:(?:{_LABEL}\.)+(?!\d+\Z){_LABEL}|(?i:localhost))"
_DOMAIN_ONLY = re.compile(_DOMAIN)
_PLAIN = re.compile(rf"({_ATOM}(?:\.{_ATOM})*)@({_DOMAIN})")
# Line and paragraph separators end a line for some software, though Unicode does not call them controls.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SENDER = re.compile(r"(?P<name>.*?)\s*<(?P<address>[^<>]*)>")


class BadAddress(UsageError):
    """Raised when a text is not an address we can write to; `reason` says why, without the text."""

    def __init__(self, text: str, reason: str) -> None:
        shown = text if len(text) <= 100 else text[:99] + "…"
        super().__init__(f"{shown!r} is not an email address: {reason}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Address:
    """`email` goes over the wire and is shown; `key` is the same for every spelling of one person."""

    email: str
    key: str


def parse_address(text: str) -> Address:
    """The address in `text`, with its domain in ASCII; raises BadAddress.

    Surrounding spaces are refused like any others. Upper and lower case are one person, before
    the @ too: no provider of note tells them apart, and mailing someone twice is the worse error.
    """
    plain = _PLAIN.fullmatch(text)
    # A label with hyphens in third and fourth place (xn--…) claims to be encoded and must decode.
    if plain is None or "--" in plain[2]:
        return _parse_unusual(text)
    if len(plain[1]) > LONGEST_LOCAL or len(text) > LONGEST:
        raise BadAddress(text, _too_long(len(plain[1])))
    return Address(f"{plain[1]}@{plain[2].lower()}", text.lower())


def parse_sender(text: str) -> tuple[str, Address]:
    """The display name ("" when there is none) and the address of `Name <a@b>` or `a@b`.

    Raises BadAddress; no control character gets through, so none can begin a header of its own.
    """
    if control := _CONTROL.search(text):
        raise BadAddress(text, f"it contains the control character U+{ord(control[0]):04X}")
    text = text.strip()
    parts = _SENDER.fullmatch(text)
    if parts is None:
        if "<" in text or ">" in text:
            raise BadAddress(text, "a sender is written Name <address>")
        return "", parse_address(text)
    name = parts["name"].strip()
    if len(name) > 1 and name[0] == name[-1] == '"':
        name = re.sub(r"\\(.)", r"\1", name[1:-1]).strip()
    if "<" in name or not _encodable(name):
        raise BadAddress(text, "a sender is written Name <address>")
    return name, parse_address(parts["address"])


def _parse_unusual(text: str) -> Address:
    """Everything but the common case: other alphabets, and the reason why an address is none."""
    if control := _CONTROL.search(text):
        raise BadAddress(text, f"it contains the control character U+{ord(control[0]):04X}")
    if any(c.isspace() for c in text):
        raise BadAddress(text, "it contains a space")
    if not _encodable(text):
        raise BadAddress(text, "it contains half a character (a lone surrogate)")
    if len(text) > 2 * LONGEST:
        raise BadAddress(text, _too_long(0))
    library = _validator()
    try:
        found = library.validate_email(text, check_deliverability=False, allow_smtputf8=True)
    except library.EmailNotValidError as error:
        raise BadAddress(text, str(error).rstrip(".")) from None
    local, domain = str(found.local_part), str(found.ascii_domain).lower()
    if not _DOMAIN_ONLY.fullmatch(domain):
        raise BadAddress(text, f"the domain {domain} is not a full name like example.com")
    email = f"{local}@{domain}"
    # Octets, not characters: that is what the receiving server counts.
    if len(local.encode()) > LONGEST_LOCAL or len(email.encode()) > LONGEST:
        raise BadAddress(text, _too_long(len(local.encode())))
    key = _fold(email)
    if len(key) > LONGEST_KEY:
        raise BadAddress(text, _too_long(0))
    return Address(email, key)


def _fold(email: str) -> str:
    """Unicode's canonical caseless form (Unicode §3.13, D145), composed."""
    folded = unicodedata.normalize("NFD", email).casefold()
    return unicodedata.normalize("NFC", folded)


def _too_long(local: int) -> str:
    if local > LONGEST_LOCAL:
        return f"the part before the @ is longer than {LONGEST_LOCAL} bytes"
    return f"it is longer than {LONGEST} bytes"


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@cache
def _validator() -> ModuleType:
    """The library, loaded when the first unusual address comes: most processes never see one."""
    import email_validator

    # Mail to example.test or localhost is refused by default; here it is how one tries things out.
    email_validator.SPECIAL_USE_DOMAIN_NAMES.clear()
    # Otherwise a domain of one label, `localhost` among them, is refused with a vaguer reason.
    email_validator.GLOBALLY_DELIVERABLE = False
    return email_validator

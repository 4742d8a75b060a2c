"""A campaign's message: compiled once, then filled in for each recipient."""

from __future__ import annotations

import re
from time import time
from typing import Any

from app.errors import TemplateProblem
from app.mail.headers import date_line, mailbox_line, subject_line
from app.mail.template import Part, Template, values

_KEY = re.compile(r"[A-Za-z0-9_-]{1,32}")
_DOMAIN = re.compile(r"[A-Za-z0-9.-]{1,253}")


class Compiled:
    """Renders the mails of one campaign. Raises TemplateProblem when it cannot be compiled.

    `message_key` and `message_id_domain` are ours, not a person's: ASCII. May be used by several threads.
    """

    def __init__(
        self,
        *,
        subject: str,
        sender_name: str,
        sender_email: str,
        html: str | None,
        text: str | None,
        message_id_domain: str,
        campaign_id: int,
        message_key: str,
    ) -> None:
        if not _KEY.fullmatch(message_key) or not _DOMAIN.fullmatch(message_id_domain):
            raise ValueError(f"not fit for a Message-ID: {message_key!r}, {message_id_domain!r}")
        self._id_start = f"<{campaign_id}."
        self._id_end = f".{message_key}@{message_id_domain}>"
        self._subject = Template("subject", subject)
        self._subject_line = (
            subject_line(self._subject.text(values({}, name="", email=""))) if self._subject.constant else None
        )
        self._from = mailbox_line("From", sender_name, sender_email)
        self._bodies = [Template(part, source) for part, source in _given(text, html)]
        #: The fields a recipient must have.
        self.required = frozenset(field for template in (self._subject, *self._bodies) for field in template.needed)
        # "=_" cannot occur in quoted-printable (RFC 2045 §6.7).
        boundary = f"=_{campaign_id}.{message_key}"
        common = f"X-Mailcrew-Campaign: {campaign_id}.{message_key}\r\nPrecedence: bulk\r\nMIME-Version: 1.0\r\n"
        self._before, self._end = _skeleton([body.part for body in self._bodies], boundary)
        self._before[0] = self._from + common.encode() + self._before[0]

    def message_id(self, subscriber_id: int) -> str:
        """The same for the same mail however often it is sent."""
        return f"{self._id_start}{subscriber_id}{self._id_end}"

    def render(self, *, subscriber_id: int, email: str, name: str, attributes: dict[str, Any]) -> bytes:
        """The whole message (RFC 5322), dot-stuffed, up to the CRLF before the final dot.

        Raises TemplateProblem when this recipient lacks a field or has an address that is none.
        """
        personal = values(attributes, name=name, email=email)
        message = [
            date_line(int(time())),
            f"Message-ID: {self.message_id(subscriber_id)}\r\n".encode(),
            mailbox_line("To", name, email),
            self._subject_line or subject_line(self._subject.text(personal)),
        ]
        for before, body in zip(self._before, self._bodies, strict=True):
            message.append(before)
            message += body.pieces(personal)
        message.append(self._end)
        return b"".join(message)


def _given(text: str | None, html: str | None) -> list[tuple[Part, str]]:
    """The bodies in the order of RFC 2046 §5.1.4: the richest last."""
    bodies: list[tuple[Part, str]] = []
    if text:
        bodies.append(("text", text))
    if html:
        bodies.append(("html", html))
    if not bodies:
        raise TemplateProblem("text", None, "there is no body: give an HTML part, a text part or both")
    return bodies


def _skeleton(parts: list[Part], boundary: str) -> tuple[list[bytes], bytes]:
    """What stands before each body, and what stands behind the last (RFC 2046 §5.1.1)."""
    kinds = {"text": "plain", "html": "html"}
    own = [
        f'Content-Type: text/{kinds[part]}; charset="utf-8"\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n'
        for part in parts
    ]
    if len(own) == 1:
        return [own[0].encode()], b""
    # The line break before a boundary is the boundary's, so a body's own last line break stays in the body.
    before = [f"\r\n--{boundary}\r\n{headers}".encode() for headers in own]
    before[0] = f'Content-Type: multipart/alternative; boundary="{boundary}"\r\n'.encode() + before[0]
    return before, f"\r\n--{boundary}--\r\n".encode()

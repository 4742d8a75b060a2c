"""What the actors need of the world outside: JSON over HTTP, a mail, a word to the people who watch."""

from __future__ import annotations

import json
import smtplib
import urllib.error
import urllib.request
from email.message import EmailMessage
from typing import Any

from examples.giftshop.config import HTTP_SECONDS, address, text

#: Other answers below 500 are the same next time, so trying again helps nobody.
WORTH_ANOTHER_TRY = frozenset({408, 425, 429})
LONGEST_ANSWER = 1_000_000


class Rejected(Exception):
    """Raised when the other side refuses for good; the task becomes a dead letter at once."""


def call(method: str, url: str, content: object = None, *, key: str | None = None) -> Any:
    """One request; the JSON that was answered, None for an empty answer.

    `key` makes a repeated call recognisable: a worker may die between the answer and its
    acknowledgement, and the task runs again. Raises Rejected, or OSError for what may pass.
    """
    headers = {"Accept": "application/json", "User-Agent": "giftshop"}
    if key is not None:
        headers["Idempotency-Key"] = key
    data = None
    if content is not None:
        headers["Content-Type"] = "application/json"
        data = json.dumps(content, ensure_ascii=False).encode()
    request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310 (config.url allows http and https)
    try:
        with urllib.request.urlopen(request, timeout=HTTP_SECONDS) as answer:  # noqa: S310
            body = answer.read(LONGEST_ANSWER)
    except urllib.error.HTTPError as error:
        if error.code < 500 and error.code not in WORTH_ANOTHER_TRY:
            raise Rejected(f"{method} {url} answered {error.code}") from error
        raise
    try:
        return json.loads(body) if body.strip() else None
    except ValueError as error:
        raise OSError(f"{method} {url} answered no JSON: {body[:80]!r}") from error


def send_one_mail(to: str, subject: str, content: str, message_id: str) -> None:
    """A plain mail through GIFTSHOP_SMTP; raises Rejected for an address that is refused, OSError for what may pass."""
    message = EmailMessage()
    message["From"] = text("GIFTSHOP_MAIL_FROM", "shop@giftshop.example")
    message["To"], message["Subject"], message["Message-ID"] = to, subject, f"<{message_id}@giftshop.example>"
    message.set_content(content)
    host, port = address("GIFTSHOP_SMTP")
    with smtplib.SMTP(host, port, timeout=HTTP_SECONDS) as connection:
        try:
            connection.send_message(message)
        except smtplib.SMTPRecipientsRefused as error:
            code, reason = error.recipients[to]
            if code >= 500:
                raise Rejected(f"{to}: {code} {reason!r}") from error
            raise

"""The obvious program that bench.sending compares with: a message per mail, a connection per mail.

Run by Dramatiq's own command line; `SINK_PORT` and `REDIS_URL` come from the environment.
"""

from __future__ import annotations

import os
import smtplib
from email.message import EmailMessage
from email.utils import formataddr, formatdate, make_msgid
from typing import Any

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker
from jinja2.sandbox import ImmutableSandboxedEnvironment

from bench.compose import HTML, SUBJECT, TEXT

QUEUE = "obvious"

broker = RedisBroker(client=redis.Redis.from_url(os.environ["REDIS_URL"]))  # type: ignore[no-untyped-call]
dramatiq.set_broker(broker)

_plain, _escaping = ImmutableSandboxedEnvironment(), ImmutableSandboxedEnvironment(autoescape=True)
_subject, _text, _html = _plain.from_string(SUBJECT), _plain.from_string(TEXT), _escaping.from_string(HTML)


@dramatiq.actor(queue_name=QUEUE)
def send_mail(name: str, email: str, fields: dict[str, Any]) -> None:
    personal = {**fields, "name": name, "email": email}
    message = EmailMessage()
    message["Date"] = formatdate()
    message["Message-ID"] = make_msgid(domain="example.org")
    message["From"] = "Hall <hall@example.org>"
    message["To"] = formataddr((name, email))
    message["Subject"] = _subject.render(personal)
    message.set_content(_text.render(personal))
    message.add_alternative(_html.render(personal), subtype="html")
    with smtplib.SMTP("127.0.0.1", int(os.environ["SINK_PORT"])) as connection:
        connection.sendmail("hall@example.org", [email], message.as_bytes())

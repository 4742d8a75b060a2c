"""How fast one process composes mails: ours beside the standard library's and a plain Jinja2 way.

    .venv/bin/python -m bench.compose [MAILS]

Every way makes the same 4–5 KB two-part mail with six fields in its subject, text and HTML, for
recipients who all differ. The ways take turns, and the best of three rounds counts.
"""

from __future__ import annotations

import sys
from binascii import b2a_qp
from collections.abc import Callable
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP, default
from email.utils import format_datetime, formataddr
from time import perf_counter
from typing import Any

from jinja2.sandbox import ImmutableSandboxedEnvironment

from app.mail.message import Compiled

Person = dict[str, Any]
Compose = Callable[[Person], bytes]

SUBJECT = "{{ name }}, your seat in {{ city }} is kept"
PARAGRAPH = (
    "We have moved the evening talks to the large hall, because more of you signed up than we had chairs. "
    "Doors open at half past six; bring a coat, the heating is as old as the house. "
)
TEXT = f"""Dear {{{{ name }}}},

{PARAGRAPH * 3}

Your seat is {{{{ seat }}}} in {{{{ city }}}}, your code {{{{ code }}}}.
{PARAGRAPH * 4}

See you there,
the {{{{ team }}}} team

To leave this list: https://example.org/leave/{{{{ code }}}}
"""
HTML = f"""<html><body style="font-family: sans-serif; margin: 0">
<table width="600" align="center" cellpadding="0" cellspacing="0"><tr><td style="padding: 24px">
<h1 style="color: #203040">Dear {{{{ name }}}},</h1>
{f'<p style="line-height: 1.5; margin: 0 0 16px">{PARAGRAPH}</p>' * 7}
<p>Your seat is <b>{{{{ seat }}}}</b> in <b>{{{{ city }}}}</b>, your code <code>{{{{ code }}}}</code>.</p>
<p><a href="https://example.org/seats/{{{{ code }}}}" style="background: #203040">See the plan</a></p>
<p>See you there, <br>the {{{{ team | default('events') }}}} team</p>
<p style="font-size: 11px">Sent to {{{{ email }}}}. <a href="https://example.org/leave/{{{{ code }}}}">Leave</a></p>
</td></tr></table></body></html>
"""
FIRST = ("Ada", "Jürgen", "Chloë", "Tom", "Mary Ann", "王芳", "Per", "Igor", "Olga", "Sean")
LAST = ("Lovelace", "O'Neill", "Müller", "Smith", "García", "Berg", "Novak", "Rossi", "Kim", "Jones")
CITIES = ("Rome", "Zürich", "Oslo", "New York", "Łódź", "Lyon", "Bath")


def people(count: int) -> list[Person]:
    """One name in two has other letters than English ones; addresses and codes are all different."""
    return [
        {
            "subscriber_id": i,
            "email": f"person{i}@example.org",
            "name": f"{FIRST[i % 10]} {LAST[i // 10 % 10]}" + (f" {i}" if i % 3 == 0 else ""),
            "attributes": {
                "city": CITIES[i % 7],
                "seat": f"{chr(65 + i % 26)}{i % 97}",
                "code": f"{i * 2654435761 % 2**32:08x}",
                "team": "hall & stage",
            },
        }
        for i in range(count)
    ]


def with_email_message() -> Compose:
    html, text, subject = _plain_templates()

    def compose(person: Person) -> bytes:
        fields = person["attributes"] | {"name": person["name"], "email": person["email"]}
        message = EmailMessage(SMTP)
        message["Date"] = format_datetime(datetime.now(UTC))
        message["Message-ID"] = f"<1.{person['subscriber_id']}.key@example.org>"
        message["To"] = formataddr((person["name"], person["email"]))
        message["From"] = formataddr(("The hall", "hall@example.org"))
        message["Subject"] = subject.render(fields)
        message.set_content(text.render(fields), cte="quoted-printable")
        message.add_alternative(html.render(fields), subtype="html", cte="quoted-printable")
        return message.as_bytes()

    return compose


def with_plain_jinja() -> Compose:
    """Rendering as usual, then the C encoder: the fastest way without taking the template apart."""
    html, text, subject = _plain_templates()

    def compose(person: Person) -> bytes:
        fields = person["attributes"] | {"name": person["name"], "email": person["email"]}
        head = (
            f"Date: {format_datetime(datetime.now(UTC))}\r\n"
            f"Message-ID: <1.{person['subscriber_id']}.key@example.org>\r\n"
            f"To: {formataddr((person['name'], person['email']))}\r\nFrom: hall@example.org\r\n"
            f"Subject: =?utf-8?q?{b2a_qp(subject.render(fields).encode(), header=True).decode()}?=\r\n"
            'MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary="=_b"\r\n'
        )
        parts = [
            f'\r\n--=_b\r\nContent-Type: text/{kind}; charset="utf-8"\r\n'
            "Content-Transfer-Encoding: quoted-printable\r\n\r\n".encode()
            + b2a_qp(template.render(fields).encode()).replace(b"\n", b"\r\n")
            for kind, template in (("plain", text), ("html", html))
        ]
        message = b"".join((head.encode(), *parts, b"\r\n--=_b--\r\n"))
        return message.replace(b"\r\n.", b"\r\n..")

    return compose


def with_ours() -> Compose:
    compiled = Compiled(
        subject=SUBJECT,
        sender_name="The hall",
        sender_email="hall@example.org",
        html=HTML,
        text=TEXT,
        message_id_domain="example.org",
        campaign_id=1,
        message_key="key",
    )
    return lambda person: compiled.render(**person)


def _plain_templates() -> tuple[Any, Any, Any]:
    escaping = ImmutableSandboxedEnvironment(autoescape=True, keep_trailing_newline=True)
    plain = ImmutableSandboxedEnvironment(keep_trailing_newline=True)
    return escaping.from_string(HTML), plain.from_string(TEXT), plain.from_string(SUBJECT)


def rate(compose: Compose, crowd: list[Person]) -> float:
    """Mails per second."""
    started = perf_counter()
    for person in crowd:
        compose(person)
    return len(crowd) / (perf_counter() - started)


def _bodies(mail: bytes) -> list[str]:
    parsed = message_from_bytes(mail, policy=default)
    assert isinstance(parsed, EmailMessage)
    return [part.get_content().replace("\r\n", "\n") for part in parsed.iter_parts()]


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 30_000
    crowd = people(count)
    ways = {
        "EmailMessage, as_bytes": (with_email_message(), crowd[: max(1, count // 30)]),
        "plain Jinja2, b2a_qp": (with_plain_jinja(), crowd),
        "ours": (with_ours(), crowd),
    }
    for person in crowd[:100]:
        made = [compose(person) for compose, _ in ways.values()]
        assert _bodies(made[0]) == _bodies(made[1]) == _bodies(made[2]), person
    best = dict.fromkeys(ways, 0.0)
    for _ in range(3):
        for name, (compose, some) in ways.items():
            best[name] = max(best[name], rate(compose, some))
    print(f"{count} mails, {len(ways['ours'][0](crowd[0]))} bytes each")
    for name, value in best.items():
        print(
            f"{name:24} {value:9,.0f}/s {1e6 / value:8.1f} µs   "
            f"{value / best['EmailMessage, as_bytes']:6.1f}x EmailMessage  "
            f"{value / best['plain Jinja2, b2a_qp']:5.2f}x plain Jinja2"
        )


if __name__ == "__main__":
    main()

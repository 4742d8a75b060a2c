"""The whole message: what a standard parser reads is exactly what the campaign meant."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import TemplateProblem
from app.mail.headers import clean
from app.mail.message import Compiled
from tests.test_headers import HOSTILE, readable, the_address
from tests.test_quoted_printable import assert_lines_are_valid, decoded

COMMON = [
    "Date",
    "Message-ID",
    "To",
    "Subject",
    "From",
    "X-Mailcrew-Campaign",
    "Precedence",
    "MIME-Version",
    "Content-Type",
]


def compiled(**changes: Any) -> Compiled:
    given: dict[str, Any] = {
        "subject": "Hello {{ name }}",
        "sender_name": "The Hall",
        "sender_email": "hall@example.org",
        "html": "<p>Dear {{ name }}</p>\n",
        "text": "Dear {{ name }}\n",
        "message_id_domain": "mail.example.org",
        "campaign_id": 3,
        "message_key": "k7",
    }
    return Compiled(**given | changes)


def read(mail: bytes) -> EmailMessage:
    message = message_from_bytes(mail, policy=default)
    assert isinstance(message, EmailMessage)
    assert not message.defects
    for part in message.walk():
        assert not part.defects
        assert not any(value.defects for value in part.values())
    return message


def rendered(campaign: Compiled, *, name: str = "Ada", email: str = "ada@example.org", **attributes: Any) -> bytes:
    return campaign.render(subscriber_id=7, email=email, name=name, attributes=attributes)


def contents(message: EmailMessage) -> list[tuple[str, bytes]]:
    parts: list[Any] = list(message.iter_parts()) if message.is_multipart() else [message]
    return [(part.get_content_type(), part.get_payload(decode=True)) for part in parts]


def test_a_mail_with_both_bodies_offers_text_first() -> None:
    message = read(rendered(compiled()))
    assert message.keys() == COMMON
    assert message.get_content_type() == "multipart/alternative"
    assert contents(message) == [("text/plain", b"Dear Ada\r\n"), ("text/html", b"<p>Dear Ada</p>\r\n")]
    assert message["X-Mailcrew-Campaign"] == "3.k7"
    assert message["Subject"] == "Hello Ada"
    assert the_address(message, "From") == ("The Hall", "hall@example.org")


@pytest.mark.parametrize(("missing", "kind"), [("html", "text/plain"), ("text", "text/html")])
@pytest.mark.parametrize("end", ["", "\n", " ", "{{ name }}"])
def test_a_mail_with_one_body_is_a_single_part(missing: str, kind: str, end: str) -> None:
    body = "text" if missing == "html" else "html"
    mail = rendered(compiled(**{missing: None, body: f"Hi {{{{ name }}}}{end}"}))
    message = read(mail)
    assert message.keys() == [*COMMON, "Content-Transfer-Encoding"]
    assert contents(message) == [(kind, decoded(f"Hi Ada{end.replace('{{ name }}', 'Ada')}"))]
    assert mail.endswith(b"\r\n")


def test_a_mail_without_a_body_is_refused() -> None:
    with pytest.raises(TemplateProblem, match="there is no body"):
        compiled(html=None, text="")


def test_the_same_mail_has_the_same_message_id() -> None:
    campaign = compiled()
    assert campaign.message_id(7) == "<3.7.k7@mail.example.org>"
    assert read(rendered(campaign))["Message-ID"] == campaign.message_id(7)


def test_the_date_is_now_in_utc() -> None:
    date = read(rendered(compiled()))["Date"].datetime
    assert date.tzinfo == UTC
    assert abs(datetime.now(UTC) - date) < timedelta(seconds=5)


def test_a_missing_field_fails_this_recipient_with_its_name() -> None:
    campaign = compiled(text="You live in {{ city }}.")
    assert campaign.required == {"name", "city"}
    with pytest.raises(TemplateProblem, match="'city' is missing"):
        rendered(campaign)
    assert b"Rome" in rendered(campaign, city="Rome")


def test_an_address_that_is_none_fails_this_recipient() -> None:
    with pytest.raises(TemplateProblem, match="is not an address"):
        rendered(compiled(), email="ada@example.org\r\nBcc: x@example.org")


def test_a_constant_subject_is_the_same_for_everybody() -> None:
    campaign = compiled(subject="Grüße\n an alle")
    assert read(rendered(campaign))["Subject"] == "Grüße an alle"


def test_an_attribute_does_not_replace_name_or_email() -> None:
    message = read(rendered(compiled(text="{{ name }} {{ email }}"), name="Ada", **{"city": "x"}))
    assert contents(message)[0][1] == b"Ada ada@example.org"
    campaign = compiled(subject="{{ name }} {{ email }}")
    mail = campaign.render(subscriber_id=1, name="Ada", email="a@b.org", attributes={"name": "Eve", "email": "e@b.org"})
    assert read(mail)["Subject"] == "Ada a@b.org"


@given(
    name=HOSTILE,
    sender=HOSTILE,
    city=HOSTILE,
    subject=st.sampled_from(["Hello {{ name }}", "{{ city }}", "{{ city }}\r\nBcc: x@y.org {{ name }}"]),
)
def test_no_text_adds_a_header_or_changes_the_structure(name: str, sender: str, city: str, subject: str) -> None:
    campaign = compiled(
        subject=subject, sender_name=sender, text="{{ name }}|{{ city }}", html="<b>{{ city | safe }}</b>\n.{{ name }}"
    )
    mail = rendered(campaign, name=name, city=city)
    message = read(mail)
    assert message.keys() == COMMON
    assert the_address(message, "To") == (readable(name), "ada@example.org")
    assert the_address(message, "From") == (readable(sender), "hall@example.org")
    assert message["Subject"] == readable(
        subject.replace("\r\n", "\n").replace("{{ name }}", name).replace("{{ city }}", city)
    )
    text, html = contents(message)
    assert text == ("text/plain", _sent(name) + b"|" + _sent(city))
    assert html[1].startswith(b"<b>" + _sent(city) + b"</b>\r\n.")
    assert mail.isascii()
    assert_lines_are_valid(mail.partition(b"\r\n\r\n")[2])
    assert not any(line.startswith(b".") or len(line) > 998 for line in mail.split(b"\r\n"))


def _sent(text: str) -> bytes:
    return decoded(text.encode("utf-8", "replace").decode())


def test_names_and_subjects_in_other_scripts_read_back() -> None:
    for name in ("王芳", "مريم", "Zoë 😀", "Łukasz Żółć", "x" * 200, "Ada " * 50):
        message = read(rendered(compiled(sender_name=name), name=name))
        assert the_address(message, "To")[0] == clean(name)
        assert the_address(message, "From")[0] == clean(name)
        assert message["Subject"] == clean(f"Hello {name}")

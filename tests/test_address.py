"""Addresses: what is accepted, how it goes over the wire, who is the same person."""

from __future__ import annotations

import pytest
from email_validator import EmailNotValidError, validate_email
from hypothesis import given, settings
from hypothesis import strategies as st

from app.mail.address import BadAddress, parse_address, parse_sender

ATOM = "abcXYZ019!#$%&'*+/=?^_`{|}~-"
PLAIN = st.builds(
    "{}@{}".format,
    st.lists(st.text(ATOM, min_size=1, max_size=9), min_size=1, max_size=3).map(".".join),
    st.lists(st.text("abzA09", min_size=1, max_size=9), min_size=1, max_size=3).map(
        lambda labels: ".".join([*labels, "test"])
    ),
)


@pytest.mark.parametrize(
    ("text", "email", "key"),
    [
        ("ann@example.com", "ann@example.com", "ann@example.com"),
        ("Ann.Lee+News@Example.COM", "Ann.Lee+News@example.com", "ann.lee+news@example.com"),
        ("x@example.test", "x@example.test", "x@example.test"),
        ("root@localhost", "root@localhost", "root@localhost"),
        ("a@bücher.example", "a@xn--bcher-kva.example", "a@xn--bcher-kva.example"),
        ("a@xn--bcher-kva.example", "a@xn--bcher-kva.example", "a@xn--bcher-kva.example"),
        ("Дима@почта.рф", "Дима@xn--80a1acny.xn--p1ai", "дима@xn--80a1acny.xn--p1ai"),
        ("李雷@例子.中国", "李雷@xn--fsqu00a.xn--fiqs8s", "李雷@xn--fsqu00a.xn--fiqs8s"),
        ("Große@x.test", "Große@x.test", "grosse@x.test"),
        ("e\u0301@x.test", "é@x.test", "é@x.test"),
        ("a" * 64 + "@x.test", "a" * 64 + "@x.test", "a" * 64 + "@x.test"),
    ],
)
def test_an_address_keeps_its_local_part_and_folds_into_a_key(text: str, email: str, key: str) -> None:
    found = parse_address(text)
    assert (found.email, found.key) == (email, key)


@pytest.mark.parametrize(
    "text",
    [
        *("", "@", "ann", "ann@", "@x.test", "a b@x.test", " a@x.test", "a@x.test ", "a@x.test\n"),
        *("a@x.test\r\nBcc: b@x.test", "a\0@x.test", "a\u2028@x.test", "a@b@x.test", "a@x..test"),
        *("a..b@x.test", ".a@x.test", "a.@x.test", "a@-x.test", "a@x-.test", "a@x_y.test", "a@x.test."),
        *("a@1.2.3.4", "a@[1.2.3.4]", "a@host", "Ann <a@x.test>", '"a b"@x.test', "a,b@x.test"),
        *("a" * 65 + "@x.test", "ü" * 33 + "@x.test", "a@" + "b" * 64 + ".test", "a@" + "b." * 126 + "test"),
        *("a@xn--zzzzzz--.test", "\ud800@x.test", "a" * 10_000_000, "a@x.123"),
    ],
    ids=lambda text: ascii(text[:30]),
)
def test_what_is_no_address_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(BadAddress) as error:
        parse_address(text)
    assert error.value.reason
    assert error.value.exit_code == 2
    assert len(str(error.value)) < 500
    assert "\n" not in str(error.value)


@settings(deadline=None)
@given(PLAIN)
def test_the_fast_path_accepts_nothing_that_the_library_refuses(text: str) -> None:
    found = parse_address(text)
    with_library = validate_email(text, check_deliverability=False, test_environment=True)
    assert found.email.lower() == with_library.normalized.lower()


@settings(deadline=None)
@given(st.one_of(PLAIN, st.text(max_size=30), st.emails()))
def test_folding_is_stable_and_one_for_every_spelling(text: str) -> None:
    try:
        found = parse_address(text)
    except BadAddress:
        return
    assert parse_address(found.email) == found
    assert parse_address(found.email.swapcase()).key == parse_address(found.email.upper()).key
    if found.email.isascii():
        assert parse_address(found.email.upper()).key == found.key
        assert parse_address(found.key).key == found.key


@settings(deadline=None)
@given(st.emails())
def test_every_ordinary_address_is_accepted(text: str) -> None:
    try:
        validate_email(text, check_deliverability=False)
    except EmailNotValidError:
        return
    assert parse_address(text).key == text.lower()


@pytest.mark.parametrize(
    ("text", "name", "email"),
    [
        ("news@x.test", "", "news@x.test"),
        (" news@x.test ", "", "news@x.test"),
        ("<news@x.test>", "", "news@x.test"),
        ("Mailcrew News <news@x.test>", "Mailcrew News", "news@x.test"),
        ('"Doe, Ann \\"A\\"" <news@x.test>', 'Doe, Ann "A"', "news@x.test"),
        ("新闻<news@例子.中国>", "新闻", "news@xn--fsqu00a.xn--fiqs8s"),
    ],
)
def test_a_sender_has_a_name_and_an_address(text: str, name: str, email: str) -> None:
    found, address = parse_sender(text)
    assert (found, address.email) == (name, email)


@pytest.mark.parametrize(
    "text",
    [
        *("", "News", "News <>", "News <news>", "News <a@x.test", "News a@x.test>", "News <a@x.test> more"),
        *("News <a@x.test>, Two <b@x.test>", "a@x.test, b@x.test", "News <a@x.test>\n", "\ud800 <a@x.test>"),
        *("News\r\nBcc: v@x.test <a@x.test>", "News\x00 <a@x.test>", "News\u2028X <a@x.test>", "<<a@x.test>"),
    ],
    ids=ascii,
)
def test_a_sender_that_could_break_a_header_is_refused(text: str) -> None:
    with pytest.raises(BadAddress):
        parse_sender(text)

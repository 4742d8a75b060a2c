"""A target as people describe it: what is missing gets a default, what is wrong is named with its fix."""

from __future__ import annotations

from typing import Any

import pytest

from app.addresses import parse_networks
from app.errors import AddressRefused
from app.schedules.checks.target import BadField, Wanted, wanted

HTTP = {"kind": "http", "url": "https://example.com/health"}
TCP = {"kind": "tcp", "host": "db.example.com", "port": 5432}


def test_a_url_is_enough() -> None:
    assert wanted(HTTP, ()) == Wanted(
        "http", name="https://example.com/health", url="https://example.com/health", expect_status="200-399",
        redirects=5, timeout_seconds=10, confirmations=2,
    )  # fmt: skip


def test_a_host_and_a_port_are_enough() -> None:
    found = wanted({**TCP, "name": None, "keyword": None}, ())
    assert (found.name, found.host, found.port, found.url) == ("db.example.com:5432", "db.example.com", 5432, None)


def test_everything_can_be_said() -> None:
    said = {
        **HTTP, "name": "shop", "expect_status": "200, 204-299", "keyword": "ok", "not_keyword": "error",
        "redirects": 0, "timeout_seconds": 60, "confirmations": 10, "webhook": "https://chat.example.com/h?k=1",
        "enabled": False,
    }  # fmt: skip
    found = wanted(said, ())
    assert {name: getattr(found, name) for name in said} == said


def test_names_in_other_scripts_are_written_in_ascii() -> None:
    assert wanted({**HTTP, "url": "https://Bücher.example/ü"}, ()).url == "https://xn--bcher-kva.example/%C3%BC"
    assert wanted({**TCP, "host": "[2606:4700::1111]"}, ()).name == "[2606:4700::1111]:5432"


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({}, "kind"),
        ({"kind": "icmp"}, "kind"),
        ({"kind": ["http"]}, "kind"),
        ({"kind": "http"}, "url"),
        ({**HTTP, "url": 5}, "url"),
        ({**HTTP, "url": "example.com"}, "url"),
        ({**HTTP, "url": "ftp://example.com"}, "url"),
        ({**HTTP, "url": "https://u:hunter2@example.com/"}, "url"),
        ({**HTTP, "url": "https://u:hunter2/@example.com/"}, "url"),
        ({**HTTP, "url": "https://example.com/\r\nX-Evil: 1"}, "url"),
        ({**HTTP, "url": "https://example.com/" + "a" * 3000}, "url"),
        ({**HTTP, "host": "x"}, "host"),
        ({**HTTP, "expect_status": "200-600"}, "expect_status"),
        ({**HTTP, "expect_status": "299-200"}, "expect_status"),
        ({**HTTP, "expect_status": "ok"}, "expect_status"),
        ({**HTTP, "expect_status": 200}, "expect_status"),
        ({**HTTP, "name": ""}, "name"),
        ({**HTTP, "name": "a\nBcc: x@y.z"}, "name"),
        ({**HTTP, "name": "n" * 201}, "name"),
        ({**HTTP, "keyword": "\x00"}, "keyword"),
        ({**HTTP, "not_keyword": " "}, "not_keyword"),
        ({**HTTP, "redirects": 11}, "redirects"),
        ({**HTTP, "timeout_seconds": 0}, "timeout_seconds"),
        ({**HTTP, "timeout_seconds": 61}, "timeout_seconds"),
        ({**HTTP, "timeout_seconds": True}, "timeout_seconds"),
        ({**HTTP, "timeout_seconds": "10"}, "timeout_seconds"),
        ({**HTTP, "confirmations": 1.5}, "confirmations"),
        ({**HTTP, "webhook": "chat.example.com"}, "webhook"),
        ({**HTTP, "webhook": "https://x.example/" + "a" * 600}, "webhook"),
        ({**HTTP, "enabled": 1}, "enabled"),
        ({**HTTP, "colour": "red"}, "colour"),
        ({**TCP, "host": None}, "host"),
        ({**TCP, "host": "a b"}, "host"),
        ({**TCP, "host": "a/b"}, "host"),
        ({**TCP, "port": 0}, "port"),
        ({**TCP, "port": 65536}, "port"),
        ({**TCP, "port": None}, "port"),
        ({**TCP, "url": "http://a"}, "url"),
        ({**TCP, "redirects": 1}, "redirects"),
    ],
)
def test_what_is_wrong_is_named(given: dict[str, Any], field: str) -> None:
    with pytest.raises(BadField) as refusal:
        wanted(given, ())
    assert refusal.value.field == field
    assert str(refusal.value).startswith((f"{field}=", f"{field} is missing"))
    assert "hunter2" not in str(refusal.value)
    assert len(str(refusal.value)) < 400


@pytest.mark.parametrize(
    "given",
    [
        {**HTTP, "url": "http://127.0.0.1/"},
        {**HTTP, "url": "http://0x7f.1/"},
        {**HTTP, "url": "http://[::ffff:10.0.0.1]/"},
        {**HTTP, "webhook": "http://169.254.169.254/latest"},
        {**TCP, "host": "2130706433"},
        {**TCP, "host": "::1"},
    ],
)
def test_an_address_inside_is_refused_at_once(given: dict[str, Any]) -> None:
    with pytest.raises(AddressRefused, match="ALLOW_PRIVATE_ADDRESSES"):
        wanted(given, ())


def test_and_taken_when_the_setting_allows_it() -> None:
    assert wanted({**HTTP, "url": "http://127.0.0.1/"}, parse_networks("127.0.0.0/8")).url == "http://127.0.0.1/"

"""A target as a user describes it, and every way in which that can be wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from app.addresses import Networks
from app.errors import UsageError
from app.mail.outgoing import judge_literal
from app.mail.url import parse_host, parse_url
from app.schedules.checks import expected

Kind = Literal["http", "tcp"]
KINDS: tuple[Kind, ...] = ("http", "tcp")

LONGEST_NAME = 200
LONGEST_KEYWORD = 200
#: The column of a notice's target.
LONGEST_WEBHOOK = 500

#: Field: default, least, most, unit.
NUMBERS = {
    "timeout_seconds": (10, 1, 60, "seconds"),
    "confirmations": (2, 1, 10, "failures in a row"),
    "redirects": (5, 0, 10, "redirects"),
}

#: Which fields only one kind has.
OF_HTTP = ("url", "expect_status", "not_keyword", "redirects")
OF_TCP = ("host", "port")
FIELDS = ("kind", "name", *OF_HTTP, *OF_TCP, "keyword", "timeout_seconds", "confirmations", "webhook", "enabled")


class BadField(UsageError):
    """Raised when a field of a target is missing or malformed; the text names field, value and fix."""

    def __init__(self, field: str, value: object, fix: str) -> None:
        shown = repr(value) if len(repr(value)) <= 100 else repr(value)[:99] + "…"
        super().__init__(
            f"{field}={shown} is not allowed: {fix}" if value is not None else f"{field} is missing: {fix}"
        )
        self.field = field


@dataclass(frozen=True)
class Wanted:
    """What to check, and who is told besides the user. Of `url` and `host`, `port` one is set, by `kind`.

    `expect_status` belongs to http, `keyword` to both (for tcp: text that the other end sends by itself).
    """

    kind: Kind
    name: str
    url: str | None = None
    host: str | None = None
    port: int | None = None
    expect_status: str | None = None
    keyword: str | None = None
    not_keyword: str | None = None
    redirects: int = 0
    timeout_seconds: int = 10
    confirmations: int = 2
    webhook: str | None = None
    enabled: bool = True


def wanted(given: Mapping[str, Any], allow_private: Networks) -> Wanted:
    """A target from fields as JSON or the command line has them; what is missing or None gets its default.

    Raises BadField, and AddressRefused for an address that is not public. Names are judged when they are checked.
    """
    fields = {name: value for name, value in given.items() if value is not None}
    for name in fields:
        if name not in FIELDS:
            raise BadField(name, fields[name], f"known are {', '.join(FIELDS)}")
    kind = fields.get("kind")
    if kind not in KINDS:
        raise BadField("kind", kind, "http or tcp")
    for name in OF_TCP if kind == "http" else OF_HTTP:
        if name in fields:
            raise BadField(name, fields[name], f"leave it out, a target of kind {kind} has none")
    place = _http(fields, allow_private) if kind == "http" else _tcp(fields, allow_private)
    if not isinstance(fields.get("enabled", True), bool):
        raise BadField("enabled", fields["enabled"], "true or false")
    return Wanted(
        kind=kind,
        keyword=_text(fields, "keyword", LONGEST_KEYWORD),
        timeout_seconds=_number(fields, "timeout_seconds"),
        confirmations=_number(fields, "confirmations"),
        webhook=_webhook(fields, allow_private),
        enabled=fields.get("enabled", True),
        **place,
    )


def _http(fields: Mapping[str, Any], allow_private: Networks) -> dict[str, Any]:
    url = _url(fields, "url", allow_private, "an address like https://example.com/health")
    if url is None:
        raise BadField("url", None, "an address like https://example.com/health")
    status = _text(fields, "expect_status", expected.LONGEST) or expected.DEFAULT
    try:
        expected.parse_statuses(status)
    except ValueError as error:
        raise BadField("expect_status", status, f"like 200-399 or 200,204 ({error})") from None
    return {
        "name": _text(fields, "name", LONGEST_NAME) or url[:LONGEST_NAME],
        "url": url,
        "expect_status": status,
        "not_keyword": _text(fields, "not_keyword", LONGEST_KEYWORD),
        "redirects": _number(fields, "redirects"),
    }


def _tcp(fields: Mapping[str, Any], allow_private: Networks) -> dict[str, Any]:
    host, port = fields.get("host"), fields.get("port")
    if not isinstance(host, str):
        raise BadField("host", host, "a name or an address like db.example.com")
    try:
        host = parse_host(host)
    except ValueError as error:
        raise BadField("host", host, f"a name or an address like db.example.com ({error})") from None
    if type(port) is not int or not 1 <= port <= 65535:
        raise BadField("port", port, "a whole number from 1 to 65535")
    judge_literal(host, allow_private)
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return {"name": _text(fields, "name", LONGEST_NAME) or shown[:LONGEST_NAME], "host": host, "port": port}


def _webhook(fields: Mapping[str, Any], allow_private: Networks) -> str | None:
    url = _url(fields, "webhook", allow_private, "an address like https://chat.example.com/hook")
    if url is not None and len(url) > LONGEST_WEBHOOK:
        raise BadField("webhook", url, f"at most {LONGEST_WEBHOOK} characters")
    return url


def _url(fields: Mapping[str, Any], name: str, allow_private: Networks, fix: str) -> str | None:
    text = fields.get(name)
    if text is None:
        return None
    if not isinstance(text, str):
        raise BadField(name, text, fix)
    try:
        url = parse_url(text)
    except ValueError as error:
        # Without the value: it may hold a password.
        raise BadField(name, "…", f"{fix}; {error}") from None
    judge_literal(url.host, allow_private)
    return str(url)


def _text(fields: Mapping[str, Any], name: str, longest: int) -> str | None:
    text = fields.get(name)
    if text is None:
        return None
    if not isinstance(text, str) or not text.strip() or not text.isprintable() or len(text) > longest:
        raise BadField(name, text, f"1 to {longest} characters on one line, no control characters")
    return text


def _number(fields: Mapping[str, Any], name: str) -> int:
    default, least, most, unit = NUMBERS[name]
    value = fields.get(name, default)
    if type(value) is not int or not least <= value <= most:
        raise BadField(name, value, f"a whole number of {unit} from {least} to {most}")
    return int(value)

"""What a setting may be: one function a kind, text in, value out; raises SettingError by the setting's name."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from app.addresses import Networks, parse_networks
from app.errors import SettingError


def whole(name: str, low: int, high: int, unit: str) -> Callable[[str], int]:
    """A number within bounds."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise SettingError(name, text, f"a whole number of {unit} from {low} to {high}")
        return value

    return parse


def url(name: str, schemes: tuple[str, ...]) -> Callable[[str], str]:
    """A URL with one of these schemes, or nothing. A password in it is not repeated in the error."""

    def parse(text: str) -> str:
        try:
            parts = urlsplit(text)
            _ = parts.port
        except ValueError as error:
            # Without the text: it may hold a password.
            raise SettingError(name, "…", f"a URL ({error})") from None
        if text and parts.scheme not in schemes:
            raise SettingError(
                name,
                _without_password(text),
                "a URL that begins with " + " or ".join(f"{s}://" for s in schemes),
            )
        return text

    return parse


def bind(text: str) -> tuple[str, int]:
    """HOST:PORT."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
        raise SettingError("HTTP_BIND", text, "HOST:PORT, for example 127.0.0.1:8025")
    return host.strip("[]"), int(port)


def concurrency(text: str) -> int | None:
    """None: as the table of queues says."""
    return whole("WORKER_CONCURRENCY", 1, 64, "threads")(text) if text else None


def mail_address(name: str) -> Callable[[str], str]:
    """One address, or nothing."""

    def parse(text: str) -> str:
        local, at, domain = text.rpartition("@")
        plain = local and at and domain and text.isascii() and text.isprintable() and not set(" <>,") & set(text)
        if text and not plain:
            raise SettingError(name, text, "one address, for example ops@example.com")
        return text

    return parse


def minutes(text: str) -> tuple[int, ...]:
    """Ever longer pauses, behind commas."""
    parts = [part.strip() for part in text.split(",")]
    found = tuple(int(part) for part in parts if part.isascii() and part.isdigit() and len(part) < 6)
    if len(found) != len(parts) or not all(1 <= one <= 10_080 for one in found) or list(found) != sorted(found):
        fit = "whole numbers of minutes from 1 to 10080 behind commas, none smaller than the one before it: 1,5,30,60"
        raise SettingError("RETRY_MINUTES", text, fit)
    return found


def networks(text: str) -> Networks:
    """Addresses and CIDR blocks, behind commas."""
    try:
        return parse_networks(text)
    except ValueError as error:
        fit = f"addresses and CIDR blocks behind commas, for example 10.0.0.0/8,127.0.0.1; or all ({error})"
        raise SettingError("ALLOW_PRIVATE_ADDRESSES", text, fit) from None


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return url.replace(f":{parts.password}@", ":***@") if parts.password else url

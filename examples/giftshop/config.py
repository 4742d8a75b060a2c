"""The gift shop's own variables, looked up where Mailcrew's are: the environment and the `.env` files."""

from __future__ import annotations

from urllib.parse import urlsplit

from app.config import variable
from app.errors import SettingError

#: Seconds to connect, and between two pieces of an answer; the queue's `timeout` limits the whole task.
HTTP_SECONDS = 10.0


def url(name: str) -> str:
    """A variable that holds an http(s) URL, without a slash at its end; raises SettingError."""
    value = variable(name) or ""
    if urlsplit(value).scheme not in ("http", "https") or not urlsplit(value).hostname:
        raise SettingError(name, value, "a URL like http://127.0.0.1:8090/api")
    return value.rstrip("/")


def address(name: str, default: str = "") -> tuple[str, int]:
    """A variable that holds HOST:PORT; raises SettingError."""
    value = variable(name) or default
    host, _, port = value.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise SettingError(name, value, "HOST:PORT, for example 127.0.0.1:8091")
    return host.strip("[]"), int(port)


def words(name: str) -> list[str]:
    """A variable that holds words between commas."""
    return [word.strip() for word in (variable(name) or "").split(",") if word.strip()]


def text(name: str, default: str) -> str:
    return variable(name) or default

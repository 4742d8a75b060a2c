"""GET /api/settings: what this home is set to, and where that is said; no secret is among it."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Annotated, Any, TypedDict
from urllib.parse import parse_qsl, urlsplit

from flask import Blueprint, Response, jsonify

from app.config import TABLE, Setting, Settings, given, read_settings, where_given
from app.db import migration_status
from app.errors import SettingError
from app.secrets import MAY_BE_EMPTY
from app.watch.logs.masks import HIDDEN
from app.web.access import needs
from app.web.openapi import describes
from app.web.resources import resources

routes = Blueprint("settings", __name__, url_prefix="/api")

SOURCES = ("environment", "home", "root", "default", "made", "closed")
#: Computed when nobody says them.
COMPUTED = ("MAILCREW_HOME", "DATABASE_URL", "REDIS_URL", "NOTICE_FROM", "HOST_GONE_SECONDS")
#: Whoever knows the path of a chat's webhook may write there.
HOOKS = ("ALERT_WEBHOOK",)
URLS = ("DATABASE_URL", "REDIS_URL", "ALERT_SMTP", *HOOKS)
#: Of what stands behind the question mark of a URL, what may be shown.
HARMLESS = ("db", "unix_socket", "charset")


class SettingDocument(TypedDict):
    """`source`: environment, home (its `.env`), root (the `.env` there), default; of a secret also made (at the first
    start) and closed (set to nothing). `value`: without passwords, null of a secret. `restart`: another value stands
    there now than the one that the console began with."""

    name: str
    value: str | None
    default: str
    source: Annotated[str, {"enum": list(SOURCES)}]
    meaning: str
    is_secret: bool
    restart: bool


class Migration(TypedDict):
    name: str
    applied: bool


@dataclass(frozen=True)
class Shown:
    """A setting as people see it; the fields are those of SettingDocument."""

    name: str
    value: str | None
    default: str
    source: str
    meaning: str
    is_secret: bool
    restart: bool


@routes.get("/settings")
@needs("admin")
@describes("Every setting: its value, and where that is said", list[SettingDocument])
def every() -> Response:
    return jsonify([asdict(one) for one in shown()])


@routes.get("/migrations")
@describes("The migrations of the database, and whether they have been applied", list[Migration])
def migrations() -> list[dict[str, Any]]:
    return [{"name": name, "applied": applied} for name, applied in migration_status(resources().db)]


def shown() -> list[Shown]:
    """Every setting in the order of the table."""
    used = resources().settings
    try:
        present: Settings | None = read_settings(os.environ)
    except SettingError:
        present = None  # the next start refuses it; what we use is as it was
    return [_shown(setting, used, present) for setting in TABLE]


def _shown(setting: Setting, used: Settings, present: Settings | None) -> Shown:
    name = setting.name
    field = "home" if name == "MAILCREW_HOME" else name.lower()
    source = where_given(used, name) or "default"
    if name in MAY_BE_EMPTY:
        if source == "default":
            source = "made"
        elif not given(used, name):
            source = "closed"
        return Shown(name, None, setting.default, source, setting.meaning, is_secret=True, restart=False)
    differs = present is not None and getattr(present, field) != getattr(used, field)
    said = given(used, name) if source != "default" else None
    value = str(getattr(used, field)) if name in COMPUTED else said or setting.default
    return Shown(name, without_secrets(name, value), setting.default, source, setting.meaning, False, differs)


def without_secrets(name: str, value: str) -> str:
    """The value of a setting as it may be shown: a URL without password, a webhook without its path."""
    if name not in URLS or not value:
        return value
    try:
        parts = urlsplit(value)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return HIDDEN
    if name in HOOKS:
        return f"{parts.scheme}://{parts.hostname or ''}{port}/{HIDDEN}"
    login, at, host = parts.netloc.rpartition("@")
    if parts.password is not None:
        login = f"{login.partition(':')[0]}:{HIDDEN}"
    shown = value.replace(parts.netloc, f"{login}{at}{host}", 1)
    query = "&".join(
        f"{key}={said if key in HARMLESS else HIDDEN}" for key, said in parse_qsl(parts.query, keep_blank_values=True)
    )
    return shown.partition("?")[0] + (f"?{query}" if query else "")

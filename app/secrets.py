"""Secrets: from the environment or a `.env` file, else made once and kept in `state/`, for our eyes only."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from app.config import Settings, given
from app.errors import SettingError

#: Those there are, and whether a person may switch off by an empty value what a secret opens.
MAY_BE_EMPTY = {"SECRET_KEY": False, "ADMIN_PASSWORD": False, "CRON_SECRET": True}


def secret(settings: Settings, name: str) -> str:
    """The value of one of these secrets, made at the first call when nobody has set it.

    Empty when it is set to nothing: what it opens is switched off. Raises SettingError.
    """
    said = given(settings, name)
    if said is not None:
        if not said and not MAY_BE_EMPTY[name]:
            raise SettingError(name, said, "some text; take the line away to have one made")
        return said
    path = secret_file(settings, name)
    try:
        return _read(path, name) or _make(path, name)
    except OSError as error:
        raise SettingError(name, f"in {path}", f"a file that we can read and write ({error})") from error


def make_secrets(settings: Settings) -> None:
    """Make those that nobody has set, so that a person finds them before they are first needed."""
    for name in MAY_BE_EMPTY:
        secret(settings, name)


def secret_file(settings: Settings, name: str) -> Path:
    """Where a secret is kept that nobody has set."""
    assert name in MAY_BE_EMPTY
    return settings.state / name.lower()


def _read(path: Path, name: str) -> str | None:
    try:
        found = path.read_text().strip()
    except FileNotFoundError:
        return None
    if not found:
        raise SettingError(name, f"in {path}", "some text; remove the file to have one made")
    return found


def _make(path: Path, name: str) -> str:
    """Write a new secret, complete before it has its name; whoever comes second takes the first one's."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
    finally:
        draft.unlink()
    made = _read(path, name)
    assert made is not None
    return made

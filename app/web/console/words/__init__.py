"""The words of the console: a folder for each language, a file for each page."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

from flask import has_request_context, request

DIRECTORY = Path(__file__).resolve().parent
#: The first is what people see whose browser asks for none of them.
LANGUAGES = ("en", "zh")
#: Each in itself.
NAMES = {"en": "English", "zh": "中文"}
COOKIE = "mailcrew_language"

Catalogue = dict[str, str | dict[str, str]]


def language() -> str:
    """The language of the present visitor: what was chosen, else what the browser likes best."""
    if not has_request_context():
        return LANGUAGES[0]
    chosen = request.cookies.get(COOKIE)
    if chosen in LANGUAGES:
        return chosen
    # Also zh-CN, zh-Hans and their like.
    for liked, _ in request.accept_languages:
        found = liked.lower().partition("-")[0]
        if found in LANGUAGES:
            return found
    return LANGUAGES[0]


def told(key: str, **values: object) -> str:
    """The words under `file.key` in the visitor's language; `n` chooses between its forms `one` and `other`.

    Raises KeyError when nobody has written them.
    """
    found = catalogue(language())[key]
    if isinstance(found, dict):
        found = found["one" if values.get("n") == 1 else "other"]
    shown = {name: f"{value:,}" if isinstance(value, int) else value for name, value in values.items()}
    return found.format(**shown)


def known(key: str) -> bool:
    """Whether somebody has written words under this key."""
    return key in catalogue(LANGUAGES[0])


@cache
def catalogue(code: str) -> Catalogue:
    """All words of a language."""
    return {
        f"{path.stem}.{key}": value
        for path in sorted((DIRECTORY / code).glob("*.toml"))
        for key, value in tomllib.loads(path.read_text()).items()
    }

"""What surrounds every page: navigation, language, theme, formats; and which pages there are."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from flask import Flask, Response, g, redirect, request

from app.web.access import LOOKING, open_to_all
from app.web.console import formats, login, pages, said, sentences, words
from app.web.console.page import GROUPS, Page, alarm_count, token_field
from app.web.resources import resources
from app.web.static import address

THEMES = ("auto", "light", "dark")
THEME_COOKIE = "mailcrew_theme"
YEAR_SECONDS = 365 * 24 * 3600


def install(app: Flask) -> None:
    """Add every page to the application, and to every template what it may use."""
    for page in all_pages():
        app.register_blueprint(page.routes)
    app.register_blueprint(login.routes)
    app.add_url_rule("/preferences", "preferences", preferences, methods=["POST"])
    app.context_processor(_names)
    app.after_request(_changed)
    app.after_request(said.forget)
    sentences.install(app)
    app.jinja_env.filters.update(
        number=formats.number, duration=formats.duration, megabytes=formats.megabytes, instant=formats.instant,
        ago=formats.ago, exact=formats.exact, shortened=formats.shortened,
    )  # fmt: skip
    app.jinja_env.globals.update(
        t=words.told, csrf=token_field, static=address, percent=formats.percent, said=said.take
    )
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True


@cache
def all_pages() -> tuple[Page, ...]:
    """The pages of all modules in `pages/`, in the order of the navigation."""
    found = [
        import_module(f"{pages.__name__}.{module.name}").page
        for module in pkgutil.iter_modules([str(Path(pages.__file__).parent)])
        if not module.name.startswith("_")
    ]
    return tuple(sorted(found, key=lambda page: (GROUPS.index(page.nav[0]), page.nav[1]) if page.nav else (99, 0)))


@open_to_all
def preferences() -> Response:
    """Keep the language and theme that somebody chose, in cookies of theirs: nothing of ours changes."""
    found = redirect(login.local(request.form.get("next", "")), 303)
    assert isinstance(found, Response)
    for cookie, field, allowed in (
        (words.COOKIE, "language", words.LANGUAGES),
        (THEME_COOKIE, "theme", THEMES),
    ):
        chosen = request.form.get(field)
        if chosen and chosen in allowed:
            found.set_cookie(cookie, chosen, max_age=YEAR_SECONDS, samesite="Lax", httponly=True)
    return found


def _names() -> dict[str, Any]:
    theme = request.cookies.get(THEME_COOKIE)
    return {
        "language": words.language(),
        "languages": words.NAMES,
        "theme": theme if theme in THEMES else THEMES[0],
        "themes": THEMES,
        "alarms": alarm_count(),
        "place_of": {page.name: page.place for page in all_pages()},
        "navigation": [(group, named) for group in GROUPS if (named := _named(group))],
    }


def _named(group: str) -> list[Page]:
    """The pages of a group that have a name already: one that is being written must not break the others."""
    return [page for page in all_pages() if page.nav and page.nav[0] == group and words.known(f"{page.name}.nav")]


def _changed(response: Response) -> Response:
    """Who has changed something sees it on the next page, not a second later."""
    if request.method not in LOOKING and "caller" in g:
        resources().forget_shared()
    return response

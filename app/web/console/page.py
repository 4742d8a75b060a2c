"""A page of the console: its routes, its template, its place in the navigation. See the package's docstring."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from flask import Blueprint, Response, g, redirect, render_template, request
from markupsafe import Markup

from app.web.access import Caller, needs
from app.web.console import said
from app.web.console.words import language, told
from app.web.resources import resources

Look = TypeVar("Look", bound=Callable[..., dict[str, Any]])
Act = TypeVar("Act", bound=Callable[..., Response | str])

#: The groups of the navigation, in its order.
GROUPS = ("send", "machine", "watch", "access")

#: Stands in what is drawn once for all where each viewer's form token belongs. Nobody can guess it.
_TOKEN_HERE = secrets.token_hex(24)


@dataclass(frozen=True)
class _Drawn:
    text: str
    tag: str


class Page:
    """`name`: its template, words and blueprint. `nav`: group and order, None for a page that others lead to.

    `under`: for those, the page whose place in the navigation is theirs too.
    """

    def __init__(self, name: str, nav: tuple[str, int] | None = None, under: str = "") -> None:
        assert nav is None or nav[0] in GROUPS
        assert bool(nav) != bool(under)
        self.name = name
        self.nav = nav
        self.place = under or name
        self.path = ""
        self.routes = Blueprint(f"console_{name}", __name__)

    def live(self, path: str, *, template: str = "", query: Sequence[str] = ()) -> Callable[[Look], Look]:
        """GET `path`: the page. GET `path`/live: its block `live`, for the page to ask for every two seconds.

        The function is called once a second at most for the same arguments, however many look, so it must not
        read the request: what the path and the `query` say is handed to it, a missing one as "".
        """
        file = f"{template or self.name}.html"

        def register(look: Look) -> Look:
            name = f"{self.name}.{look.__name__}"

            def values(places: dict[str, Any]) -> dict[str, Any]:
                said = {**places, **{key: request.args.get(key, "") for key in query}}
                found: dict[str, Any] = resources().shared(name).get(tuple(said.values()), lambda: look(**said))
                return {**said, **found}

            def drawn(places: dict[str, Any]) -> _Drawn:
                key = (language(), *places.values(), *(request.args.get(key, "") for key in query))
                made: _Drawn = resources().shared(f"{name} drawn").get(key, lambda: _draw(file, values(places)))
                return made

            def whole(**places: Any) -> str:
                tag, address = drawn(places).tag, request.full_path.rstrip("?")
                base, mark, rest = address.partition("?")
                live_url = f"{base.rstrip('/')}/live{mark}{rest}"
                return render(file, **values(places), live_url=live_url, live_tag=tag, page_name=self.name)

            def part(**places: Any) -> Response:
                g.quiet = True
                made = drawn(places)
                # The navigation around the part tells it, and is not drawn again.
                count = {"X-Alarms": str(alarm_count())}
                if request.headers.get("HX-PTag") == made.tag:
                    return Response(status=304, headers=count)
                return Response(personal(made.text), headers={"HX-PTag": made.tag, **count})

            self._add(path, look.__name__, whole)
            self.routes.add_url_rule(f"{path.rstrip('/')}/live", f"{look.__name__}_live", part)
            return look

        return register

    def get(self, path: str, *, template: str = "", scope: str = "read") -> Callable[[Look], Look]:
        """GET `path`: the template with what the function returns; it may read the request."""

        def register(look: Look) -> Look:
            def whole(**places: Any) -> str:
                return render(f"{template or self.name}.html", **places, **look(**places), page_name=self.name)

            self._add(path, look.__name__, needs(scope)(whole))
            return look

        return register

    def post(self, path: str, *, scope: str = "admin") -> Callable[[Act], Act]:
        """POST `path`, from a form; the caller and the form token have been checked."""

        def register(act: Act) -> Act:
            self.routes.add_url_rule(path, act.__name__, needs(scope)(act), methods=["POST"])
            return act

        return register

    def download(self, path: str, *, scope: str = "read") -> Callable[[Act], Act]:
        """GET `path`: a file; the function returns the whole answer."""

        def register(act: Act) -> Act:
            self.routes.add_url_rule(path, act.__name__, needs(scope)(act))
            return act

        return register

    def done(self, path: str, word: str = "", **values: object) -> Response:
        """Go to a page of ours, and tell there what has been done."""
        found = redirect(path, 303)
        assert isinstance(found, Response)
        if word:
            said.leave(found, told(word, **values))
        return found

    def _add(self, path: str, name: str, view: Callable[..., Any]) -> None:
        self.path = self.path or path
        self.routes.add_url_rule(path, name, view)


def alarm_count() -> int:
    """How many alarms nobody has acknowledged, as far as it is known; looking is left to others."""
    seen = resources().watcher.seen
    return len(seen.loud()) if seen else 0


def render(file: str, **values: Any) -> str:
    """A whole page, with the viewer's form token in it."""
    return personal(render_template(file, **values))


def personal(text: str) -> str:
    """What was drawn for all, with the viewer's own form token."""
    return text.replace(_TOKEN_HERE, form_token())


def token_field() -> Markup:
    """The hidden field that every form needs."""
    return Markup('<input type="hidden" name="csrf" value="{}">').format(_TOKEN_HERE)


def form_token() -> str:
    """The viewer's; empty for a token's owner, whose requests need none."""
    known = g.get("caller")
    if isinstance(known, Caller):
        return resources().sessions.form_token(known.session.id) if known.session else ""
    return str(g.get("visitor_token", ""))


def _draw(file: str, values: dict[str, Any]) -> _Drawn:
    text = render_template(file, **values, live_only=True)
    return _Drawn(text, hashlib.sha256(text.encode()).hexdigest()[:16])

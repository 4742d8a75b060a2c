"""Say what an SMTP server is and may; try one out, step by step."""

from __future__ import annotations

from functools import cache
from typing import Any
from zoneinfo import available_timezones

from flask import Response, make_response, request

from app.errors import Unavailable
from app.mail.server_changes import server_by_id
from app.mail.server_fields import HIGHEST_LIMIT, HIGHEST_WEIGHT, LIMITS, LONGEST, TLS_KINDS
from app.mail.when import system_zone
from app.web.console.page import Page, render
from app.web.console.pages.servers import ONE
from app.web.errors import Problem
from app.web.fields import filled_in
from app.web.resources import resources
from app.web.server_settings import COLUMNS, NEEDED, NUMBERS, OPTIONS, added, changed, settings_of
from app.web.servers import tested

page = Page("server_edit", under="servers")

#: What a new server is until somebody says otherwise.
AT_FIRST = {"port": 587, "tls": "starttls", "weight": 1}
LONGEST_ADDRESS = 320


@page.get("/servers/new", scope="admin")
def blank() -> dict[str, Any]:
    return _form({**AT_FIRST, "timezone": system_zone()})


@page.get(f"{ONE}/edit", scope="admin")
def edit(server_id: int) -> dict[str, Any]:
    server = server_by_id(server_id)
    return {**_form(settings_of(server)), "server": server}


@page.post("/servers/new")
def new() -> Response:
    try:
        server_id = added({name: value for name, value in _said(*NEEDED, *OPTIONS).items() if value is not None})
    except Problem as problem:
        return _again(problem, **_form(request.form))
    return page.done(f"/servers/{server_id}/test", "server_edit.was_added")


@page.post(f"{ONE}/edit")
def save(server_id: int) -> Response:
    server = server_by_id(server_id)
    try:
        done = changed(server_id, _said("host", "port", *OPTIONS))
    except Problem as problem:
        return _again(problem, **_form({**request.form, "name": server.name}), server=server)
    word = "server_edit.was_changed" if done.fields else "server_edit.was_so"
    return page.done(f"/servers/{server_id}", word, n=done.released)


@page.get(f"{ONE}/test", template="server_test")
def ask(server_id: int) -> dict[str, Any]:
    return _trial(server_id)


@page.post(f"{ONE}/test")
def test(server_id: int) -> Response:
    said = {name: request.form.get(name, "").strip() for name in ("to", "from")}
    try:
        outcome = tested(server_id, said["to"], said["from"])
    except Problem as problem:
        return _shown(problem.status, wrong={problem.field or "": str(problem)}, typed=said, **_trial(server_id))
    except Unavailable as error:
        return _shown(503, wrong={"": str(error)}, typed=said, **_trial(server_id))
    return _shown(200, outcome=outcome, typed=said, **_trial(server_id))


def _form(given: Any) -> dict[str, Any]:
    return {
        "given": given,
        "tls_kinds": TLS_KINDS,
        "limits": LIMITS,
        "longest": {name: LONGEST[COLUMNS.get(name, name)] for name in (*NEEDED, *OPTIONS)
                    if COLUMNS.get(name, name) in LONGEST},
        "most": HIGHEST_LIMIT,
        "heaviest": HIGHEST_WEIGHT,
        "zones": zones(),
    }  # fmt: skip


@cache
def zones() -> list[str]:
    """Every time zone that this machine knows."""
    return sorted(available_timezones())


def _said(*names: str) -> dict[str, Any]:
    """What stands in the form; None where it is empty."""
    return {name: filled_in(request.form.get(name, ""), number=name in NUMBERS) for name in names}


def _trial(server_id: int) -> dict[str, Any]:
    return {
        "server": server_by_id(server_id), "notice_from": resources().settings.notice_from, "longest": LONGEST_ADDRESS
    }  # fmt: skip


def _again(problem: Problem, **values: Any) -> Response:
    drawn = render("server_edit.html", **values, wrong={problem.field or "": str(problem)}, page_name=page.name)
    return make_response(drawn, problem.status)


def _shown(status: int, **values: Any) -> Response:
    return make_response(render("server_test.html", **values, page_name=page.name), status)

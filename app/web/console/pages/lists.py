"""The lists, one list with its members, and files on their way into them."""

from __future__ import annotations

from typing import Any

from flask import Response, make_response, request

from app.lists.jobs import cancel_import, find_import, imports
from app.lists.search import members
from app.lists.sizes import one_list, the_list
from app.models.states import MembershipStatus
from app.web import uploads
from app.web.access import takes_up_to
from app.web.console.page import Page, render
from app.web.errors import Problem
from app.web.imports import AT_IMPORT, submitted
from app.web.lists import AT_LIST, COUNT_SECONDS, LONGEST_PLACE, counted, created
from app.web.query import one_of, text
from app.web.resources import resources

page = Page("lists", nav=("send", 20))

#: Imports shown on the page of all lists, of one list, and members on a page.
NEWEST = 5
OF_LIST = 20
PAGE = 50
#: What files are written in, the usual one first: codecs that Python knows.
ENCODINGS = ("utf-8", "gb18030", "big5", "shift_jis", "euc-kr", "windows-1252", "windows-1251", "iso-8859-2", "utf-16")


@page.live("/lists")
def look() -> dict[str, Any]:
    lists = counted()
    return {"lists": lists, "imports": imports(resources().db, NEWEST), "names": {one.id: one.name for one in lists}}


@page.live(AT_LIST, template="list")
def one(list_id: int) -> dict[str, Any]:
    here = resources()
    the_list(list_id)
    return {
        "found": here.shared("list", COUNT_SECONDS).get(list_id, lambda: one_list(here.db, list_id)),
        "imports": imports(here.db, OF_LIST, None, list_id),
        "encodings": ENCODINGS,
        "most_mb": here.settings.upload_mb,
    }


@page.get(f"{AT_LIST}/members", template="members")
def on_it(list_id: int) -> dict[str, Any]:
    status, after = one_of("status", sorted(MembershipStatus), MembershipStatus.ACTIVE), text("after", LONGEST_PLACE)
    found = the_list(list_id)
    shown = members(resources().db, list_id, status, limit=PAGE, after=after or None)
    return {
        "list": found, "status": status, "statuses": [one.value for one in MembershipStatus],
        "found": shown.found, "more": shown.after,
    }  # fmt: skip


@page.post("/lists/new")
def new() -> Response:
    name = request.form.get("name", "")
    try:
        list_id = created(name)
    except Problem as problem:
        return _again("/lists", "lists.html", problem, name=name, **look())
    return page.done(f"/lists/{list_id}", "lists.was_made")


@page.post(f"{AT_LIST}/import")
@takes_up_to(uploads.most)
def take(list_id: int) -> Response:
    try:
        submitted(list_id)
    except Problem as problem:
        if problem.field is None:
            raise
        return _again(f"/lists/{list_id}", "list.html", problem, list_id=list_id, **one(list_id))
    return page.done(f"/lists/{list_id}", "lists.was_taken")


@page.post(f"{AT_IMPORT}/cancel")
def cancel(import_id: int) -> Response:
    db = resources().db
    cancel_import(db, import_id, db.now_ms())
    stopped = find_import(db, import_id)
    return page.done("/suppressions" if stopped.is_rules else f"/lists/{stopped.list_id}", "lists.was_cancelled")


def _again(path: str, template: str, problem: Problem, **values: Any) -> Response:
    """The page once more, with what was wrong beside its field."""
    drawn = render(
        template, **values, wrong={problem.field: str(problem)}, live_url=f"{path}/live", live_tag="",
        page_name=page.name,
    )  # fmt: skip
    return make_response(drawn, problem.status)

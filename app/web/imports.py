"""/api/imports: files of people on their way into lists."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypedDict

from flask import Blueprint, Response, jsonify, request, send_file

from app.errors import UsageError
from app.events import warn
from app.instants import iso
from app.lists.import_kinds import NO_LIST
from app.lists.jobs import Import, cancel_import, find_import, imports, rejects_path, submit
from app.lists.sizes import the_list
from app.lists.suppressing import LONGEST_REASON
from app.models.states import ImportState
from app.queues.broker import RedisTrouble
from app.queues.put_new import put_new
from app.web import uploads
from app.web.access import caller, takes_up_to
from app.web.audit import tell
from app.web.campaigns import LARGEST_ID
from app.web.errors import Problem
from app.web.lists import AT_LIST, LARGEST_PAGE, LIMIT, PAGE
from app.web.openapi import PAGED, describes, whole_number
from app.web.query import linked, whole
from app.web.resources import resources

routes = Blueprint("imports", __name__, url_prefix="/api")

LONGEST_ENCODING = 40
QUEUE = "mail"
AT_IMPORT = f"/imports/<int(max={LARGEST_ID}):import_id>"


class ImportDocument(TypedDict):
    """How far a file is. `size` and `bytes_read` in bytes, `read` in rows: the sum of the four that follow it.

    `list_id`: null when it holds rules of suppression; `blocked`: subscribers who were active until then.
    """

    id: int
    list_id: int | None
    file: str
    state: ImportState
    size: int
    bytes_read: int
    read: int
    created: int
    updated: int
    unchanged: int
    rejected: int
    blocked: int
    rate_per_second: float | None
    eta_seconds: float | None
    error: str | None
    by: str
    created_at: str
    started_at: str | None
    finished_at: str | None


@routes.post(f"{AT_LIST}/import")
@takes_up_to(uploads.most)
@describes(
    "Import a CSV of people into a list", ImportDocument, status=202,
    form={
        "file": {"type": "string", "format": "binary", "description": "its first line names the columns"},
        "encoding": {"type": "string", "maxLength": LONGEST_ENCODING, "description": "when it is not UTF-8: gb18030 …"},
    },
)  # fmt: skip
def import_file(list_id: int) -> tuple[dict[str, Any], int]:
    """The file is read later, by a worker: ask the import how far it is. Its header is looked at now."""
    return document(submitted(list_id)), 202


@routes.get("/imports")
@describes(
    "Imports, the newest first", list[ImportDocument],
    query={
        "list": whole_number(0, LARGEST_ID, "only those into this list, 0: rules of suppression"),
        "limit": LIMIT,
        "before": whole_number(1, LARGEST_ID, "only those with a lower id: the next page"),
    },
    headers=PAGED,
)  # fmt: skip
def every_import() -> Response:
    limit, before = whole("limit", PAGE, LARGEST_PAGE), whole("before", LARGEST_ID, LARGEST_ID)
    list_id = whole("list", 0, LARGEST_ID, 0) if "list" in request.args else None
    found = imports(resources().db, limit + 1, before, list_id)
    answer = jsonify([document(one) for one in found[:limit]])
    more = found[limit - 1].id if len(found) > limit else None
    return linked(answer, list=list_id, limit=limit, before=more)


@routes.get(AT_IMPORT)
@describes("How far an import is", ImportDocument)
def one_import(import_id: int) -> dict[str, Any]:
    return document(find_import(resources().db, import_id))


@routes.post(f"{AT_IMPORT}/cancel")
@describes("Have an import go no further; what is in stays in", ImportDocument)
def cancel(import_id: int) -> dict[str, Any]:
    db = resources().db
    cancel_import(db, import_id, db.now_ms())
    return one_import(import_id)


@routes.get(f"{AT_IMPORT}/rejects")
@describes("The rows that could not be imported: line, reason and text", str, media="text/csv")
def rejects(import_id: int) -> Response:
    return rejects_file(import_id)


def submitted(list_id: int) -> Import:
    """Take the present request's file for an import into a list; raises Problem."""
    return _taken(list_id, the_list(list_id).name)


def rules_submitted() -> Import:
    """Take the present request's file of rules of suppression, and the reason it says; raises Problem."""
    reason = " ".join(request.form.get("reason", "").split())
    if len(reason) > LONGEST_REASON:
        raise Problem(400, "invalid", f"reason must be text of at most {LONGEST_REASON} characters", "reason")
    return _taken(NO_LIST, "suppression", lambda file_name: reason or f"imported from {file_name}"[:LONGEST_REASON])


def _taken(list_id: int, name: str, reason: Callable[[str], str | None] = lambda _: None) -> Import:
    """`reason`: that of an import of a file with this name."""
    here, encoding = resources(), request.form.get("encoding", "").strip() or None
    file = uploads.uploaded("file")
    if encoding and (len(encoding) > LONGEST_ENCODING or not encoding.isascii() or not encoding.isprintable()):
        raise Problem(400, "invalid", f"encoding={encoding[:40]!r} is none we know: utf-8, gb18030 …", "encoding")
    stored, file_name = uploads.keep(file), _file_name(file.filename or "")
    try:
        import_id = submit(
            here.db, here.settings, stored, list_id=list_id, file_name=file_name, encoding=encoding,
            who=caller().name, now=here.db.now_ms(), reason=reason(file_name),
        )  # fmt: skip
    except BaseException as error:
        (here.settings.uploads / stored).unlink(missing_ok=True)
        if not isinstance(error, UsageError):
            raise
        told = str(error)
        field = "encoding" if told.startswith("--encoding") else "file"
        raise Problem(400, "invalid", told.removeprefix("--"), field) from error
    tell(f"{file.filename} into {name}, import {import_id}")
    _wake_workers(import_id)
    return find_import(here.db, import_id)


def rejects_file(import_id: int) -> Response:
    """The file of the rows that were refused; raises NotFound or Problem."""
    here = resources()
    found = find_import(here.db, import_id)
    path = rejects_path(here.settings, import_id)
    if not found.rejected or not path.is_file():
        where = "" if not found.rejected else f"; its file is on {found.place.partition('~')[0]}"
        raise Problem(404, "not_found", f"import {import_id} has {found.rejected} rejected rows{where}")
    return send_file(path, "text/csv", as_attachment=True, download_name=f"rejects-{import_id}.csv", max_age=0)


def _wake_workers(import_id: int) -> None:
    try:
        put_new(resources().redis, QUEUE, "import_people", {f"import-{import_id}": []})
    except RedisTrouble as error:
        warn("the import begins when Redis is back", import_id=import_id, reason=str(error))


def _file_name(given: str) -> str:
    """The last part of what the browser said, in one line."""
    name = given.replace("\\", "/").rpartition("/")[2]
    return "".join(sign for sign in name.encode("utf-8", "replace").decode() if sign.isprintable()) or "people.csv"


def document(found: Import) -> dict[str, Any]:
    return {
        "id": found.id, "list_id": None if found.is_rules else found.list_id, "file": found.file_name,
        "state": found.state, "size": found.size, "bytes_read": found.bytes_read, "read": found.rows_read,
        "created": found.created, "updated": found.updated, "unchanged": found.unchanged, "rejected": found.rejected,
        "blocked": found.blocked,
        "rate_per_second": found.rate, "eta_seconds": found.eta_seconds, "error": found.error, "by": found.who,
        "created_at": iso(found.created_at), "started_at": iso(found.started_at), "finished_at": iso(found.finished_at),
    }  # fmt: skip

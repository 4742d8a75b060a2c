"""/api/servers: the SMTP servers, how they are just now, and all that is done to them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, NotRequired, TypedDict

from flask import Blueprint, Response, jsonify

from app.mail.address import parse_address
from app.mail.server_changes import User, clear_cooldown, pause_server, remove_server, resume_server, server_by_id
from app.mail.server_traffic import Counts, counts_today, open_campaigns
from app.mail.server_views import INSTANTS, ServerView, server_document, server_views
from app.web.access import needs
from app.web.audit import tell
from app.web.body import json_object
from app.web.campaigns import LARGEST_ID
from app.web.fields import TEXT_OR_NONE, check_kinds, fields_named
from app.web.openapi import describes
from app.web.resources import resources
from app.web.schemas import like, record
from app.web.server_settings import (
    NEEDED,
    OPTIONS,
    RENAMED,
    NewServer,
    ServerChanges,
    ServerSettings,
    added,
    changed,
    settings_of,
)
from app.web.tries import Tried, tried

routes = Blueprint("servers", __name__, url_prefix="/api/servers")

AT_SERVER = f"/<int(max={LARGEST_ID}):server_id>"
#: Counting reads what was sent since midnight, so it is done this often at most, in seconds.
COUNT_SECONDS = 5.0

_MORE: dict[str, Any] = {**dict.fromkeys(INSTANTS, str | None), "today": Counts, "campaigns": list[int]}
ServerDocument = like("ServerDocument", ServerView, **_MORE)
ChangedServer = like("ChangedServer", ServerView, **_MORE, changed=list[str], released=int)


class Moved(TypedDict):
    """`changed`: whether this call did it."""

    id: int
    state: str
    changed: bool


class RemovedServer(TypedDict):
    """`campaigns`: those that go on over their other servers."""

    id: int
    removed: bool
    campaigns: list[User]


Trial = record(
    "Trial", "With `to` a mail is sent there, `from` somebody else than NOTICE_FROM if need be.",
    {"to": NotRequired[str | None], "from": NotRequired[str | None]},
)  # fmt: skip


@routes.get("")
@describes("Every server: whether it can send, what of its limits is used, why it waits", list[ServerDocument])  # type: ignore[valid-type]
def every() -> Response:
    return jsonify([document(one) for one in seen()])


@routes.post("")
@describes("Add a server", ServerDocument, takes=NewServer, status=201)
def new() -> tuple[dict[str, Any], int]:
    return document(one_seen(added(json_object(*NEEDED, *OPTIONS)))), 201


@routes.get(AT_SERVER)
@describes("One server", ServerDocument)
def one(server_id: int) -> dict[str, Any]:
    return document(one_seen(server_id))


@routes.get(f"{AT_SERVER}/settings")
@needs("admin")
@describes("What a person has said of a server, as PATCH takes it", ServerSettings)
def settings(server_id: int) -> dict[str, Any]:
    return settings_of(server_by_id(server_id))


@routes.patch(AT_SERVER)
@describes("Change a server; campaigns that waited for it look again at once", ChangedServer, takes=ServerChanges)
def change(server_id: int) -> dict[str, Any]:
    done = changed(server_id, json_object("host", "port", *OPTIONS))
    fields = [RENAMED.get(name, name) for name in done.fields]
    return {**document(one_seen(server_id)), "changed": fields, "released": done.released}


@routes.delete(AT_SERVER)
@describes("Take a server away; refused while an open campaign has no other", RemovedServer)
def remove(server_id: int) -> dict[str, Any]:
    return {"id": server_id, "removed": True, "campaigns": [asdict(user) for user in removed(server_id)]}


@routes.post(f"{AT_SERVER}/pause")
@describes("Send nothing more over a server until it is resumed", Moved)
def pause(server_id: int) -> dict[str, Any]:
    done = pause_server(resources().db, named(server_id))
    return {"id": server_id, "state": server_by_id(server_id).state, "changed": done}


@routes.post(f"{AT_SERVER}/resume")
@describes("Let a paused server go on", Moved)
def resume(server_id: int) -> dict[str, Any]:
    done = resume_server(resources().db, named(server_id))
    return {"id": server_id, "state": server_by_id(server_id).state, "changed": done}


@routes.post(f"{AT_SERVER}/cool")
@describes("End the cool-down of a server and of all senders at it: it is tried again at once", Moved)
def cool(server_id: int) -> dict[str, Any]:
    done = clear_cooldown(resources().db, named(server_id))
    return {"id": server_id, "state": server_by_id(server_id).state, "changed": done}


@routes.post(f"{AT_SERVER}/test")
@describes("Connect, log in, leave; with `to` also send a mail. At most some seconds", Tried, takes=Trial)
def test(server_id: int) -> dict[str, Any]:
    said = json_object("to", "from")
    check_kinds(said, {"to": TEXT_OR_NONE, "from": TEXT_OR_NONE})
    return asdict(tested(server_id, said.get("to") or "", said.get("from") or ""))


def seen() -> list[ServerView]:
    """Every server as it is now; asked for once a second, however many look."""
    here = resources()
    found: list[ServerView] = here.shared("servers").get(
        None, lambda: server_views(here.db, here.redis, here.db.now_ms())
    )
    return found


def one_seen(server_id: int) -> ServerView:
    """One of them; raises NotFound."""
    server_by_id(server_id)
    here = resources()
    return server_views(here.db, here.redis, here.db.now_ms(), server_id)[0]


def today() -> dict[int, Counts]:
    """What each server was asked since midnight in its zone."""
    here = resources()
    found: dict[int, Counts] = here.shared("servers today", COUNT_SECONDS).get(
        None, lambda: counts_today(here.db, [(one.id, one.timezone) for one in seen()], here.db.now_ms())
    )
    return found


def users() -> dict[int, list[int]]:
    """The campaigns that are not over, by the servers that they may use."""
    here = resources()
    found: dict[int, list[int]] = here.shared("servers' campaigns").get(None, lambda: open_campaigns(here.db))
    return found


def document(view: ServerView) -> dict[str, Any]:
    """A server as scripts read it."""
    return {
        **server_document(view),
        "today": asdict(today().get(view.id, Counts())),
        "campaigns": users().get(view.id, []),
    }


def removed(server_id: int) -> list[User]:
    """Raises NotFound or Refused."""
    name = named(server_id)
    tell(name)
    return remove_server(resources().db, name)


def tested(server_id: int, to: str, sender: str) -> Tried:
    """Try a server out; raises NotFound, Problem, or Unavailable when others are tried out already."""
    here, server = resources(), server_by_id(server_id)
    for field, address in (("to", to), ("from", sender)):
        with fields_named(field):
            if address:
                parse_address(address)
    done = tried(here.db, here.settings, server, to, sender or here.settings.notice_from)
    outcome = "passed" if done.ok else f"failed: {done.error}"
    tell(f"{server.name}{f', mail to {to}' if to else ''}, {outcome}")
    return done


def named(server_id: int) -> str:
    """The name of a server; raises NotFound."""
    return str(server_by_id(server_id).name)

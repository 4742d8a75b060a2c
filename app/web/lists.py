"""/api/lists: lists with their sizes and members."""

from __future__ import annotations

from typing import Annotated, Any, TypedDict

from flask import Blueprint, Response, jsonify

from app.errors import Refused, UsageError
from app.instants import iso
from app.lists.memberships import LONGEST_LIST_NAME
from app.lists.search import members
from app.lists.sizes import Sized, all_lists, make_list, one_list, the_list
from app.models.states import MembershipStatus
from app.web.audit import tell
from app.web.body import json_object
from app.web.campaigns import LARGEST_ID
from app.web.errors import Problem
from app.web.openapi import PAGED, describes, whole_number
from app.web.query import linked, one_of, text, whole
from app.web.resources import resources
from app.web.schemas import Words

routes = Blueprint("lists", __name__, url_prefix="/api")

PAGE = 100
LARGEST_PAGE = 1000
LONGEST_PLACE = 4000
#: Counting reads an index from end to end, so it is done this often at most, in seconds; seldomer where it takes long.
#: Who has imported people wants to see them.
COUNT_SECONDS = 2.0


class ListDocument(TypedDict):
    """`subscribers`: those who are mailed as far as the list goes. Who left stands under `unsubscribed`."""

    id: int
    name: str
    subscribers: int
    unsubscribed: int
    removed: int
    created_at: str


class NewList(TypedDict):
    name: Annotated[Words, {"maxLength": LONGEST_LIST_NAME}]


class MemberDocument(TypedDict):
    id: int
    email: str
    name: str
    status: str


AT_LIST = f"/lists/<int(max={LARGEST_ID}):list_id>"
LIMIT = whole_number(1, LARGEST_PAGE, "how many", PAGE)


@routes.get("/lists")
@describes("Every list with its sizes", list[ListDocument])
def every() -> Response:
    return jsonify([_list(one) for one in counted()])


@routes.post("/lists")
@describes("Make a list", ListDocument, takes=NewList, status=201)
def new() -> tuple[dict[str, Any], int]:
    name = json_object("name").get("name")
    if not isinstance(name, str):
        raise Problem(400, "invalid", "name must be the name of the new list", "name")
    return _list(one_list(resources().db, created(name))), 201


@routes.get(AT_LIST)
@describes("One list with its sizes", ListDocument)
def one(list_id: int) -> dict[str, Any]:
    return _list(one_list(resources().db, list_id))


@routes.get(f"{AT_LIST}/members")
@describes(
    "The members of a list", list[MemberDocument],
    query={
        "status": {"enum": sorted(MembershipStatus), "default": "active"}, "limit": LIMIT,
        "after": {"type": "string", "maxLength": LONGEST_PLACE, "description": "from the Link of the page before"},
    },
    headers=PAGED,
)  # fmt: skip
def list_members(list_id: int) -> Response:
    status, limit = (
        one_of("status", sorted(MembershipStatus), MembershipStatus.ACTIVE),
        whole("limit", PAGE, LARGEST_PAGE),
    )
    the_list(list_id)
    page = members(resources().db, list_id, status, limit=limit, after=text("after", LONGEST_PLACE) or None)
    answer = jsonify([{"id": x.id, "email": x.email, "name": x.name, "status": x.status} for x in page.found])
    return linked(answer, status=status, limit=limit, after=page.after)


def counted() -> list[Sized]:
    """Every list, counted seldom however many look."""
    here = resources()
    found: list[Sized] = here.shared("lists", COUNT_SECONDS).get(None, lambda: all_lists(here.db))
    return found


def created(name: str) -> int:
    """The id of a new list; raises Problem."""
    try:
        list_id = make_list(resources().db, name)
    except UsageError as error:
        raise Problem(400, "invalid", str(error), "name") from error
    except Refused as error:
        raise Problem(409, "refused", str(error), "name") from error
    tell(f"list {name.strip()}")
    return list_id


def _list(found: Sized) -> dict[str, Any]:
    sizes = found.sizes
    return {
        "id": found.id, "name": found.name, "subscribers": found.subscribers,
        "unsubscribed": sizes[MembershipStatus.UNSUBSCRIBED], "removed": sizes[MembershipStatus.REMOVED],
        "created_at": iso(found.created_at),
    }  # fmt: skip

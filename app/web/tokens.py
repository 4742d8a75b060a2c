"""/api/tokens: who may ask the API, for how much; a token itself is told once."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired, TypedDict

from flask import Blueprint, Response, jsonify

from app.errors import NotFound, Refused
from app.models.tables import Token
from app.models.tokens import SCOPES, create_token, revoke_token, tokens
from app.web.access import needs
from app.web.audit import tell
from app.web.body import json_object
from app.web.campaigns import LARGEST_ID
from app.web.errors import Problem
from app.web.fields import TEXT, check_kinds, fields_named
from app.web.openapi import describes
from app.web.resources import resources

routes = Blueprint("tokens", __name__, url_prefix="/api/tokens")

AT_TOKEN = f"/<int(max={LARGEST_ID}):token_id>"
LONGEST_NAME = 100
#: What a token may do unless somebody says more.
LEAST = SCOPES[0]


class TokenDocument(TypedDict):
    """`last_used_at`: to the minute."""

    id: int
    name: str
    scope: str
    created_at: str
    last_used_at: str | None
    revoked_at: str | None


class NewToken(TypedDict):
    """Who will use it, and for what: read (the default), send, admin."""

    name: Annotated[str, {"maxLength": LONGEST_NAME}]
    scope: NotRequired[Annotated[str, {"enum": list(SCOPES)}]]


class MadeToken(TypedDict):
    """`token`: keep it, nobody can read it again."""

    name: str
    scope: str
    token: str


class RevokedToken(TypedDict):
    id: int
    revoked: bool


@routes.get("")
@needs("admin")
@describes("Every token by name, also those that were revoked", list[TokenDocument])
def every() -> Response:
    return jsonify(tokens())


@routes.post("")
@describes("Make a token; it is told this once", MadeToken, takes=NewToken, status=201)
def new() -> tuple[dict[str, str], int]:
    said = json_object("name", "scope")
    check_kinds(said, {"name": TEXT, "scope": TEXT})
    if "name" not in said:
        raise Problem(400, "invalid", "name is missing", "name")
    scope = said.get("scope", LEAST)
    return {"name": said["name"], "scope": scope, "token": made(said["name"], scope)}, 201


@routes.delete(AT_TOKEN)
@describes("End a token at once", RevokedToken)
def revoke(token_id: int) -> dict[str, Any]:
    revoked(token_id)
    return {"id": token_id, "revoked": True}


def made(name: str, scope: str) -> str:
    """A new token; raises Problem."""
    with fields_named("name"):
        try:
            token = create_token(name, scope, resources().db.now_ms())
        except Refused as error:
            raise Problem(409, "refused", str(error), "name") from error
    tell(f"token {name}, scope {scope}")
    return token


def revoked(token_id: int) -> str:
    """The name of a token that is ended; raises NotFound, or Refused when it was ended before."""
    token = Token.get_or_none(Token.id == token_id)
    if token is None:
        raise NotFound(f"there is no token {token_id}")
    tell(f"token {token.name}")
    revoke_token(token.name, resources().db.now_ms())
    return str(token.name)

"""Tokens: who may ask over HTTP, and for how much. The token itself is shown once and never stored."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from typing import Any

from peewee import IntegrityError

from app.errors import NotFound, Refused, UsageError
from app.instants import iso
from app.models.tables import Token

#: Each includes those before it.
SCOPES = ("read", "send", "admin")

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,99}")
#: Says whose it is when one turns up where it should not be.
PREFIX = "mailcrew_"
#: The last use is written down this often at most, in ms: reading must not become writing.
USE_MS = 60_000


def create_token(name: str, scope: str, now: int) -> str:
    """Store a new token under a name; the token, which nobody can read again."""
    if not NAME.fullmatch(name):
        raise UsageError(
            f"NAME={name!r} is not allowed: letters, digits and . _ @ -, a letter or digit first, at most 100"
        )
    if scope not in SCOPES:
        raise UsageError(f"--scope={scope!r} is not allowed: {', '.join(SCOPES)}")
    token = PREFIX + secrets.token_urlsafe(32)
    try:
        Token.create(name=name, scope=scope, hash=_hash(token), created_at=now)
    except IntegrityError:
        raise Refused(
            f"there is or was a token called {name!r}; take another name, so that the logs stay clear"
        ) from None
    return token


def tokens() -> list[dict[str, Any]]:
    """Every token by name, as scripts read it; never the token itself."""
    return [
        {
            "id": token.id, "name": token.name, "scope": token.scope, "created_at": iso(token.created_at),
            "last_used_at": iso(token.last_used_at), "revoked_at": iso(token.revoked_at),
        }
        for token in Token.select().order_by(Token.name)
    ]  # fmt: skip


def revoke_token(name: str, now: int) -> None:
    """End a token at once; raises NotFound, or Refused when it has been revoked already."""
    mine = Token.update(revoked_at=now).where(Token.name == name, Token.revoked_at.is_null()).execute()
    if mine:
        return
    if Token.get_or_none(Token.name == name) is None:
        raise NotFound(f"there is no token called {name!r}; see bin/mailcrew tokens list")
    raise Refused(f"the token {name!r} has been revoked already")


def find_token(presented: str) -> Token | None:
    """The valid token that a caller presents, or None."""
    wanted = _hash(presented)
    token: Token | None = Token.get_or_none(Token.hash == wanted)
    if token is None or token.revoked_at is not None or not hmac.compare_digest(str(token.hash), wanted):
        return None
    return token


def note_use(token: Token, now: int) -> None:
    """Write down that a token was used, to the minute."""
    if (token.last_used_at or 0) <= now - USE_MS:
        Token.update(last_used_at=now).where(Token.id == token.id).execute()


def allows(scope: str, needed: str) -> bool:
    """Whether a token of this scope may do what needs that one."""
    return scope in SCOPES and SCOPES.index(scope) >= SCOPES.index(needed)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()

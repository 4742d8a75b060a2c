"""What the columns of a file mean, and the person that a row describes.

Headers are compared without regard to case, spaces and punctuation. Every column that is not the
address, the name or the status becomes an attribute, under the name that a template can use:
lower case, everything that is neither letter nor digit becomes `_` ("First Name" → `first_name`).
A column without a header is left out. An empty cell says nothing: it erases nothing.

Known beside plain files: listmonk's subscriber export (its JSON `attributes` are merged in, its own
`uuid` and timestamps left out) and Mailchimp's audience export, archives of those who left included.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from app.errors import UsageError
from app.mail.address import BadAddress, parse_address

LONGEST_NAME = 200

EMAIL_HEADERS = {
    *("email", "emailaddress", "emailaddresses", "mail", "mailaddress", "subscriberemail", "emailadresse"),
    *("mailadresse", "adresseemail", "adressemail", "courriel", "correo", "correoelectrónico", "emailadres"),
    *("indirizzoemail", "endereçodeemail", "адресэлектроннойпочты", "электроннаяпочта", "邮箱", "邮箱地址"),
    *("电子邮箱", "电子邮件", "电子邮件地址", "邮件地址", "電子郵件", "電子郵件地址", "メールアドレス", "이메일"),
}
_NAME = {
    *("name", "fullname", "displayname", "contactname", "vollständigername", "nomcomplet", "nombre"),
    *("nombrecompleto", "имя", "姓名", "名字", "名称", "氏名", "名前", "お名前", "이름"),
}
_FIRST_NAME = {"firstname", "fname", "givenname", "forename", "vorname", "prénom"}
_LAST_NAME = {"lastname", "lname", "surname", "familyname", "nachname", "familienname", "nom"}
_STATUS = {"status", "状态"}
_LEFT_AT = {"unsubtime", "cleantime"}
_LISTMONK = {"uuid", "email", "attributes", "status"}
_LISTMONK_OWN = {"uuid", "createdat", "updatedat"}

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


class Wish(StrEnum):
    """What a row asks for. `join` is the default."""

    JOIN = "join"
    LEAVE = "leave"
    BLOCK = "block"


_WISHES = {
    "": Wish.JOIN,
    **dict.fromkeys(("active", "subscribed", "enabled", "confirmed"), Wish.JOIN),
    # A person whom listmonk has disabled is not mailed there, so not here either.
    **dict.fromkeys(("unsubscribed", "disabled", "cleaned"), Wish.LEAVE),
    **dict.fromkeys(("blocked", "blocklisted", "blacklisted"), Wish.BLOCK),
}
_SHOWN_STATUSES = "active, subscribed, enabled, unsubscribed, disabled, cleaned, blocked or blocklisted"


class BadRow(Exception):
    """Raised when a row describes nobody we can write to; its text is the reason."""


@dataclass(frozen=True, slots=True)
class Person:
    """What one row says. `attributes` holds what is not empty."""

    email: str
    key: str
    name: str
    attributes: dict[str, Any]
    wish: Wish


@dataclass(frozen=True, slots=True)
class Columns:
    """Which cell is what; a position is None when the file has no such column."""

    count: int
    email: int
    name: tuple[int, ...]
    status: int | None
    left_at: tuple[int, ...]
    json: int | None
    attributes: tuple[tuple[str, int], ...]

    def person(self, cells: Sequence[str]) -> Person:
        """The person in a row; raises BadRow."""
        if len(cells) != self.count:
            raise BadRow(f"{len(cells)} columns instead of {self.count}")
        text = cells[self.email].strip()
        if not text:
            raise BadRow("no address")
        try:
            address = parse_address(text)
        except BadAddress as error:
            raise BadRow(f"invalid address: {error.reason}") from None
        attributes: dict[str, Any] = {}
        if self.json is not None:
            attributes = _json_object(cells[self.json].strip())
        for key, index in self.attributes:
            if value := cells[index].strip():
                attributes[key] = value
        return Person(address.email, address.key, self._name(cells), attributes, self._wish(cells))

    def _name(self, cells: Sequence[str]) -> str:
        name = " ".join(part for index in self.name if (part := cells[index].strip()))
        if not name.isprintable():
            # A name goes into a header, where a line break would begin the next one.
            name = " ".join(_CONTROLS.sub(" ", name).split())
        if len(name) > LONGEST_NAME:
            raise BadRow(f"the name is longer than {LONGEST_NAME} characters")
        return name

    def _wish(self, cells: Sequence[str]) -> Wish:
        text = "" if self.status is None else cells[self.status].strip()
        wish = _WISHES.get(text.casefold())
        if wish is None:
            raise BadRow(f"status {text[:40]!r} is none of {_SHOWN_STATUSES}")
        if self.left_at and wish is Wish.JOIN:
            if any(cells[index].strip() for index in self.left_at):
                return Wish.LEAVE
            if not text:
                # Mailing someone who left cannot be undone, and neither can unsubscribing everyone.
                raise BadRow("no time in UNSUB_TIME or CLEAN_TIME and no status: has this person left?")
        return wish


def find_columns(header: Iterable[str]) -> Columns:
    """What the columns are, by their headers; raises UsageError without an address or with doubles."""
    names = [_visible(cell) for cell in header]
    folded = [fold_header(name) for name in names]
    _refuse_doubles(names)
    email = _only(folded, EMAIL_HEADERS, names)
    if email is None:
        found = ", ".join(name or "(empty)" for name in names)
        raise UsageError(
            f"no column holds the address; the header has: {found[:500]}. "
            "It may be called email, e-mail, email address, mail, 邮箱 … in any case"
        )
    listmonk = set(folded) >= _LISTMONK
    name = _only(folded, _NAME, names)
    full = (_only(folded, _FIRST_NAME, names), _only(folded, _LAST_NAME, names))
    status = _only(folded, _STATUS, names)
    document = folded.index("attributes") if listmonk else None
    taken = {email, name, status, document}
    taken |= {index for index, fold in enumerate(folded) if listmonk and fold in _LISTMONK_OWN}
    return Columns(
        count=len(names),
        email=email,
        name=(name,) if name is not None else tuple(index for index in full if index is not None),
        status=status,
        left_at=tuple(index for index, fold in enumerate(folded) if fold in _LEFT_AT),
        json=document,
        attributes=tuple((attribute_key(n), i) for i, n in enumerate(names) if n and i not in taken),
    )


def attribute_key(header: str) -> str:
    """The name of a column as a template can use it: "First Name" → `first_name`, "2nd" → `_2nd`."""
    text = unicodedata.normalize("NFKC", header).casefold()
    key = re.sub(r"\W+", "_", text).strip("_") or "_"
    return f"_{key}" if key[0].isdigit() else key


def _visible(cell: str) -> str:
    return _CONTROLS.sub(" ", cell).strip()


def fold_header(name: str) -> str:
    """A header without case, spaces and punctuation, as headers are compared."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", name).casefold())


def _refuse_doubles(names: list[str]) -> None:
    seen: dict[str, str] = {}
    for name in filter(None, names):
        key = attribute_key(name)
        if key in seen:
            raise UsageError(f"two columns have the same name: {seen[key]!r} and {name!r}; rename one")
        seen[key] = name


def _only(folded: list[str], accepted: set[str], names: list[str]) -> int | None:
    """The one column that is called so; raises UsageError when there are two."""
    found = [index for index, fold in enumerate(folded) if fold in accepted]
    if len(found) > 1:
        both = " and ".join(repr(names[index]) for index in found[:2])
        raise UsageError(f"two columns mean the same: {both}; rename the one that does not")
    return found[0] if found else None


def _json_object(text: str) -> dict[str, Any]:
    """The attributes in listmonk's JSON cell, nulls left out; raises BadRow."""
    if not text:
        return {}
    try:
        found = json.loads(text, parse_constant=_no_constant)
        # An escaped half of a character (\ud800) is JSON, but can be neither stored nor mailed.
        json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise BadRow(f"attributes is not JSON: {str(error)[:100]}") from None
    if not isinstance(found, dict):
        raise BadRow("attributes is not a JSON object")
    return {key: value for key, value in found.items() if value is not None}


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")

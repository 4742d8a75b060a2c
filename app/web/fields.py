"""What people say in the fields of a request, where the layers below speak of a command's options."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from app.errors import BadField, UsageError
from app.web.errors import Problem

_OPTION = re.compile(r"--([a-z][a-z-]*)")


def without_dashes(message: str) -> str:
    """What a command says of its options, said of fields: `--per-day=0` becomes `per_day=0`."""
    return _OPTION.sub(lambda found: found[1].replace("-", "_"), message)


@contextmanager
def fields_named(otherwise: str | None = None, renamed: Mapping[str, str] | None = None) -> Iterator[None]:
    """Have a UsageError answered as a Problem with the field that is wrong.

    That is the one of a BadField, `renamed` if need be, else the first option in its text, else `otherwise`.
    """
    try:
        yield
    except UsageError as error:
        text = str(error)
        option = _OPTION.search(text)
        field = error.field if isinstance(error, BadField) else without_dashes(option[0]) if option else otherwise
        raise Problem(400, "invalid", without_dashes(text), (renamed or {}).get(field or "", field)) from error


Kind = tuple[str, Callable[[Any], bool]]

TEXT: Kind = ("text", lambda value: isinstance(value, str))
TEXT_OR_NONE: Kind = ("text, or null for none", lambda value: value is None or isinstance(value, str))
NUMBER: Kind = ("a whole number", lambda value: type(value) is int)
NUMBER_OR_NONE: Kind = ("a whole number, or null for none", lambda value: value is None or type(value) is int)


def check_kinds(said: Mapping[str, Any], kinds: Mapping[str, Kind]) -> None:
    """Raises Problem for the first field that is not of its kind."""
    for name, value in said.items():
        kind, fits = kinds[name]
        if not fits(value):
            raise Problem(400, "invalid", f"{name} must be {kind}", name)


def filled_in(text: str, *, number: bool) -> str | int | None:
    """What a form's field says: None when it is empty; a number where one is wanted and there is one."""
    text = text.strip()
    if number and text.isascii() and text.removeprefix("-").isdigit() and len(text) < 20:
        return int(text)
    return text or None

"""Types as JSON schemas: what an answer looks like is said once, to the type checker and to the API's description."""

from __future__ import annotations

import dataclasses
import inspect
import types
from enum import Enum
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    Required,
    TypedDict,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

Schema = dict[str, Any]


#: Text that is not empty.
Words = Annotated[str, {"minLength": 1}]


def like(name: str, kind: Any, /, renamed: dict[str, str] | None = None, **more: Any) -> Any:
    """A JSON object with the fields of a dataclass, some of them under another name, and more."""
    fields = {(renamed or {}).get(field, field): hint for field, hint in get_type_hints(kind).items()}
    made: Any = TypedDict(name, {**fields, **more})  # type: ignore[misc]
    made.__doc__ = kind.__doc__
    return made


def record(name: str, text: str, fields: dict[str, Any]) -> Any:
    """A JSON object whose fields have names that Python has none for, like `from`; `text` says what it is."""
    made: Any = TypedDict(name, fields)  # type: ignore[misc]
    made.__doc__ = text
    return made


_PLAIN: dict[Any, Schema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    Any: {},
    object: {},
}


class Schemas:
    """Collects the schemas of named types under `components/schemas`."""

    def __init__(self) -> None:
        self.named: dict[str, Schema] = {}
        self._kinds: dict[str, Any] = {}

    def of(self, kind: Any) -> Schema:
        """The schema of a type: plain ones, `X | None`, lists, dicts, literals, enums, TypedDicts, dataclasses.

        `Annotated[X, {…}]` adds to the schema of X. Raises TypeError for any other.
        """
        origin, parts = get_origin(kind), get_args(kind)
        if origin is None and kind in _PLAIN:
            return dict(_PLAIN[kind])
        if origin is Annotated:
            return {**self.of(parts[0]), **{name: value for more in parts[1:] for name, value in more.items()}}
        if origin in (NotRequired, Required):
            return self.of(parts[0])
        if origin in (Union, types.UnionType):
            return self._either([self.of(part) for part in parts])
        if origin in (list, tuple):
            return {"type": "array", "items": self.of(parts[0])}
        if origin is dict:
            return {"type": "object", "additionalProperties": self.of(parts[1])}
        if origin is Literal:
            return {"enum": list(parts)}
        if isinstance(kind, type) and issubclass(kind, Enum):
            return {"enum": [member.value for member in kind]}
        if is_typeddict(kind) or dataclasses.is_dataclass(kind):
            return self._object(kind)
        raise TypeError(f"{kind!r} has no JSON schema")

    def _either(self, schemas: list[Schema]) -> Schema:
        kinds = [schema.get("type") for schema in schemas]
        if len(schemas) == 2 and {"type": "null"} in schemas:
            other = next(schema for schema in schemas if schema != {"type": "null"})
            if isinstance(other.get("type"), str):
                return {**other, "type": [other["type"], "null"]}
        if all(isinstance(kind, str) and set(schema) == {"type"} for kind, schema in zip(kinds, schemas, strict=True)):
            return {"type": kinds}
        return {"anyOf": schemas}

    def _object(self, kind: Any) -> Schema:
        name = self._name(kind)
        if name not in self.named:
            self._kinds[name] = kind
            self.named[name] = {}  # a type may hold its own kind
            hints = get_type_hints(kind, include_extras=True)
            self.named[name] = {
                "type": "object",
                "properties": {field: self.of(hint) for field, hint in hints.items()},
                "required": [field for field, hint in hints.items() if get_origin(hint) is not NotRequired],
                **self._description(kind),
            }
            if is_typeddict(kind):
                self.named[name]["additionalProperties"] = False
        return {"$ref": f"#/components/schemas/{name}"}

    def _name(self, kind: Any) -> str:
        """The type's own; behind that of its module when another type has it."""
        name = str(kind.__name__)
        if self._kinds.get(name, kind) is not kind:
            name = f"{kind.__module__.rpartition('.')[2].title()}{name}"
        if self._kinds.get(name, kind) is not kind:
            raise TypeError(f"two types of the API are called {name}")
        return name

    def _description(self, kind: Any) -> Schema:
        # A dataclass without a docstring gets its signature for one.
        text = inspect.getdoc(kind) or ""
        return (
            {"description": text} if text and not text.startswith(f"{kind.__name__}(") and text != dict.__doc__ else {}
        )

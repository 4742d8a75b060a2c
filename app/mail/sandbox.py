"""The Jinja2 environment of campaign templates: what an expression may do, and how much.

Values are what JSON can carry. A template reads them and calls a few harmless methods; it reaches no
other attribute of a Python object, and nothing that grows without bound in one step.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from jinja2 import Undefined
from jinja2.runtime import Context, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range

#: The longest range, and the widest padding, that a template may ask for.
MAX_COUNT = 1000
#: The longest string or list that `*` may build, and the bits of the largest number.
MAX_REPEATED = 100_000
MAX_BITS = 512

_TEXT_METHODS = frozenset({
    "capitalize", "count", "endswith", "find", "isalpha", "isdigit", "isnumeric", "join", "lower", "lstrip",
    "partition", "removeprefix", "removesuffix", "replace", "rpartition", "rsplit", "rstrip", "split",
    "splitlines", "startswith", "strip", "title", "upper",
})  # fmt: skip
_METHODS: dict[type, frozenset[str]] = {
    str: _TEXT_METHODS,
    dict: frozenset({"get", "items", "keys", "values"}),
    list: frozenset({"count", "index"}),
    tuple: frozenset({"count", "index"}),
    int: frozenset(),
    float: frozenset(),
}
# attr reaches Python attributes; pprint prints Python; format and xmlattr pad and print without bound.
_REMOVED_FILTERS = ("attr", "format", "pprint", "xmlattr")
_CAPPED_FILTERS = ("batch", "center", "indent", "round", "slice", "tojson")


class Missing(Undefined):
    """A field that the subscriber lacks: fine in a condition or before `default`, an error when used."""

    __slots__ = ()

    @property
    def _undefined_message(self) -> str:
        if self._undefined_hint:
            return self._undefined_hint
        return f"the field {self._undefined_name!r} is missing and has no default"

    __str__ = __repr__ = __iter__ = __len__ = __contains__ = Undefined._fail_with_undefined_error


def default(value: Any, default_value: Any = "", boolean: bool = False) -> Any:
    """Jinja's `default`, for which an empty name or attribute counts as a missing one."""
    if isinstance(value, Undefined) or value is None or value == "" or (boolean and not value):
        return default_value
    return value


def _range(*args: int) -> range:
    counted = safe_range(*args)
    if len(counted) > MAX_COUNT:
        raise OverflowError(f"range is limited to {MAX_COUNT} items")
    return counted


def _capped(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The filter, refusing numbers that would make it pad or repeat without bound."""

    # What the filter is told about its surroundings comes first, then the value: neither is a count.
    first = 2 if hasattr(function, "jinja_pass_arg") else 1

    @wraps(function)
    def capped(*args: Any, **kwargs: Any) -> Any:
        for given in (*args[first:], *kwargs.values()):
            if isinstance(given, int) and abs(given) > MAX_COUNT:
                raise OverflowError(f"{name} is limited to {MAX_COUNT}")
        return function(*args, **kwargs)

    return capped


class Sandbox(ImmutableSandboxedEnvironment):
    """Where templates are compiled; its templates yield plain text."""

    intercepted_binops = frozenset({"*", "**", "%"})

    def __init__(self, html: bool) -> None:
        super().__init__(autoescape=html, undefined=Missing, keep_trailing_newline=True)
        self.filters["default"] = self.filters["d"] = default
        for name in _REMOVED_FILTERS:
            del self.filters[name]
        for name in _CAPPED_FILTERS:
            self.filters[name] = _capped(name, self.filters[name])
        del self.globals["lipsum"]
        self.globals["range"] = _range

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "*":
            _check_product(left, right)
        elif operator == "**":
            _check_power(left, right)
        elif isinstance(left, str):
            raise OverflowError("'%' formats no text here: write the value where it belongs")
        return super().call_binop(context, operator, left, right)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """An item before a method of the same name, and null as if it were missing."""
        if isinstance(obj, dict) and attribute in obj:
            return self.getitem(obj, attribute)
        value = super().getattr(obj, attribute)
        return self.undefined(obj=obj, name=attribute) if value is None else value

    def getitem(self, obj: Any, argument: Any) -> Any:
        value = super().getitem(obj, argument)
        return self.undefined(obj=obj, name=argument) if value is None else value

    def wrap_str_format(self, value: Any) -> None:
        """No `str.format` at all: a width in it can ask for gigabytes."""

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        for kind, allowed in _METHODS.items():
            if isinstance(obj, kind):
                return attr in allowed
        return not isinstance(obj, Macro) and super().is_safe_attribute(obj, attr, value)


def _check_product(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        if left.bit_length() + right.bit_length() > MAX_BITS:
            raise OverflowError("the product is too large")
        return
    for repeated, times in ((left, right), (right, left)):
        if hasattr(repeated, "__len__") and isinstance(times, int) and len(repeated) * times > MAX_REPEATED:
            raise OverflowError(f"'*' builds at most {MAX_REPEATED} characters or items")


def _check_power(left: Any, right: Any) -> None:
    bits = left.bit_length() if isinstance(left, int) else 64
    if abs(right) > MAX_BITS or bits * abs(right) > MAX_BITS:
        raise OverflowError("the power is too large")

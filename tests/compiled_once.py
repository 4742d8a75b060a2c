"""Routes and templates of the console are compiled once a process: tests make hundreds of applications."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask
from jinja2 import BytecodeCache
from jinja2.bccache import Bucket
from werkzeug.routing import Rule

Builder = Callable[..., tuple[str, str]]


class Remembered(BytecodeCache):
    """Compiled templates, by name and source."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        known = self._known.get((bucket.key, bucket.checksum))
        if known:
            bucket.bytecode_from_string(known)

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._known[bucket.key, bucket.checksum] = bucket.bytecode_to_string()


def compile_once() -> None:
    """Have all applications of this process share what was compiled for one of them."""
    Flask.jinja_options = {**Flask.jinja_options, "bytecode_cache": Remembered()}
    known: dict[tuple[object, ...], Builder] = {}
    compiled: Callable[[Rule, bool], Builder] = Rule._compile_builder

    def builder(rule: Any, append_unknown: bool = True) -> Builder:
        key = (rule.rule, append_unknown, *rule._trace, *sorted((rule.defaults or {}).items()))
        if key not in known:
            known[key] = compiled(rule, append_unknown)
        return known[key]

    Rule._compile_builder = builder  # type: ignore[assignment,method-assign]

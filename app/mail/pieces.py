"""Templates that yield their output already encoded as quoted-printable.

The literal text of a template is encoded once, while it is compiled; only values are encoded for each
recipient. That holds for templates whose text goes straight to the output. Where text passes through
something else first (a filter block, a macro, a set block …) `straight` says no, and the whole body has
to be encoded after rendering.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from jinja2 import nodes
from jinja2.compiler import CodeGenerator
from jinja2.nodes import EvalContext
from jinja2.runtime import Context
from jinja2.utils import missing
from markupsafe import escape

from app.mail.quoted_printable import encode
from app.mail.sandbox import Sandbox

_STRAIGHT = (nodes.Output, nodes.If, nodes.For, nodes.Assign, nodes.With)
# Values whose encoding is remembered. Names and cities come again, codes do not, so a full memory starts
# afresh; it saves a fifth of the time of a mail.
_MEMO_SIZE = 2048
_MEMO_LENGTH = 100


def straight(tree: nodes.Template) -> bool:
    """Whether every literal text of this template goes to the output as it stands."""
    return all(
        isinstance(statement, _STRAIGHT) and not getattr(statement, "recursive", False)
        for statement in tree.find_all(nodes.Stmt)
    )


class _PieceWriter(CodeGenerator):
    """Jinja's compiler, writing `yield <bytes>` for literal text and `yield emit(value)` for values."""

    def write_commons(self) -> None:
        super().write_commons()
        self.writeline("emit = environment.emit")

    def _output_const_repr(self, group: Iterable[Any]) -> str:
        return repr(encode("".join(map(str, group))))

    def _output_child_pre(self, *_: Any) -> None:
        self.write("emit(")

    def _output_child_post(self, *_: Any) -> None:
        self.write(")")


class PieceSandbox(Sandbox):
    """A sandbox whose templates yield quoted-printable pieces."""

    code_generator_class = _PieceWriter

    def __init__(self, html: bool) -> None:
        super().__init__(html)
        self.emit = _emitter(html)


def _emitter(html: bool) -> Callable[[Any], bytes]:
    """A function from a value to its piece, which remembers short strings."""
    memo: dict[str, bytes] = {}

    def emit(value: Any) -> bytes:
        if type(value) is not str:  # a Markup equals the str of the same characters but is escaped already
            return encode(str(escape(value)) if html else str(value))
        piece = memo.get(value)
        if piece is None:
            piece = encode(str(escape(value)) if html else value)
            if len(value) <= _MEMO_LENGTH:
                if len(memo) >= _MEMO_SIZE:
                    memo.clear()
                memo[value] = piece
        return piece

    return emit


class Values(dict[str, Any]):
    """A recipient's fields over the template's globals; what neither has is `missing`."""

    def __missing__(self, name: str) -> Any:
        return missing


class Personal(Context):
    """Jinja's context without what only blocks and imports need: most of its cost."""

    def __init__(self, eval_ctx: EvalContext, values: Values) -> None:
        self.environment = eval_ctx.environment
        self.eval_ctx = eval_ctx
        self.parent = values
        self.vars = {}
        self.blocks = {}
        self.exported_vars = set()
        self.globals_keys = set()
        self.name = None
        # The most used method without its two look-ups: names that a template sets are its local variables.
        self.resolve_or_missing = values.__getitem__  # type: ignore[method-assign,assignment]

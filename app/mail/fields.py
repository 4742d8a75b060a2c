"""Which personal fields a template cannot do without."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from jinja2 import nodes

Names = frozenset[str]
_NONE: Names = frozenset()
_SPECIAL = {"loop", "self", "caller", "varargs", "kwargs"}
# Tests that may be asked of a missing field, and are false for it (`undefined` and `none` are not here).
_HARMLESS_TESTS = {"defined", "string", "number", "mapping", "boolean"}


class Guard(NamedTuple):
    """The fields known to be there when a condition holds, and when it does not."""

    held: Names
    failed: Names


def needed(tree: nodes.Template, environment_names: set[str]) -> dict[str, int]:
    """The fields used without a default and outside a condition on them, each with its first line."""
    local = {name.name for name in tree.find_all(nodes.Name) if name.ctx in ("store", "param")}
    local |= {macro.name for macro in tree.find_all(nodes.Macro)}
    walk = _Walk(local | _SPECIAL | environment_names)
    walk.visit(tree, _NONE)
    return walk.found


def guard(test: nodes.Node) -> Guard:
    """What a condition tells about the presence of fields."""
    if isinstance(test, nodes.Name):
        return Guard(frozenset({test.name}), _NONE)
    if isinstance(test, nodes.Not):
        held, failed = guard(test.node)
        return Guard(failed, held)
    if isinstance(test, nodes.And | nodes.Or):
        left, right = guard(test.left), guard(test.right)
        if isinstance(test, nodes.And):
            return Guard(left.held | right.held, left.failed & right.failed)
        return Guard(left.held & right.held, left.failed | right.failed)
    if isinstance(test, nodes.Test | nodes.Filter) and isinstance(test.node, nodes.Name):
        name = frozenset({test.node.name})
        if test.name in _HARMLESS_TESTS or _is_default(test):
            # `city | default('')` holds only when the city is there; with 'Rome' it would always hold.
            falsy = all(isinstance(value, nodes.Const) and not value.value for value in test.args)
            return Guard(name if falsy else _NONE, _NONE)
        if test.name in ("undefined", "none"):
            return Guard(_NONE, name)
    if isinstance(test, nodes.Compare) and isinstance(test.expr, nodes.Name) and len(test.ops) == 1:
        name, operand = frozenset({test.expr.name}), test.ops[0]
        if operand.op == "eq" and isinstance(operand.expr, nodes.Const):
            return Guard(name, _NONE)
        if operand.op == "ne" and isinstance(operand.expr, nodes.Const):
            return Guard(_NONE, name)
    return Guard(_NONE, _NONE)


def _is_default(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Filter) and node.name in ("default", "d")


@dataclass
class _Walk:
    """Goes through a template with the set of names that are safe at each place."""

    known: set[str]
    found: dict[str, int] = field(default_factory=dict)

    def visit(self, node: nodes.Node, safe: Names, condition: bool = False) -> None:
        """`condition`: only the truth of this expression is asked, so a missing field is fine."""
        if isinstance(node, nodes.Name):
            if not condition and node.name not in self.known and node.name not in safe:
                self.found.setdefault(node.name, node.lineno)
        elif isinstance(node, nodes.If):
            self._visit_if(node, safe)
        elif isinstance(node, nodes.CondExpr):
            held, failed = guard(node.test)
            self.visit(node.test, safe, condition=True)
            self.visit(node.expr1, safe | held, condition)
            if node.expr2:
                self.visit(node.expr2, safe | failed, condition)
        elif isinstance(node, nodes.And | nodes.Or):
            self._visit_choice(node, safe, condition)
        elif isinstance(node, nodes.Not):
            self.visit(node.node, safe, condition=True)
        else:
            self._visit_plain(node, safe)

    def _visit_if(self, node: nodes.If, safe: Names) -> None:
        for branch in (node, *node.elif_):
            self.visit(branch.test, safe, condition=True)
            held, failed = guard(branch.test)
            for child in branch.body:
                self.visit(child, safe | held)
            safe |= failed
        for child in node.else_:
            self.visit(child, safe)

    def _visit_choice(self, node: nodes.And | nodes.Or, safe: Names, condition: bool) -> None:
        held, failed = guard(node.left)
        if isinstance(node, nodes.And):
            self.visit(node.left, safe, condition)
            self.visit(node.right, safe | held, condition)
        else:
            # The left side is the result only when it is true.
            self.visit(node.left, safe, condition=True)
            self.visit(node.right, safe | failed, condition)

    def _visit_plain(self, node: nodes.Node, safe: Names) -> None:
        tolerated: nodes.Node | None = None
        if _is_default(node) or (isinstance(node, nodes.Test) and node.name in _HARMLESS_TESTS | {"undefined", "none"}):
            tolerated = node.node  # type: ignore[attr-defined]
        elif isinstance(node, nodes.Compare) and node.ops[0].op in ("eq", "ne", "in", "notin"):
            tolerated = node.expr
        for child in node.iter_child_nodes():
            self.visit(child, safe, condition=child is tolerated and isinstance(child, nodes.Name))

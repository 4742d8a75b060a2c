"""What is refused in a template before anything is rendered."""

from __future__ import annotations

from jinja2 import Environment, nodes

from app.errors import TemplateProblem

#: The largest template, in bytes of UTF-8.
MAX_SOURCE = 1_000_000
#: How deep loops over `range` may stand in each other.
MAX_NESTED_RANGES = 2

# A campaign's parts stand alone: there are no other templates to load.
_REFUSED: dict[type[nodes.Node], str] = {
    nodes.Include: "include",
    nodes.Import: "import",
    nodes.FromImport: "import",
    nodes.Extends: "extends",
}


def check_size(part: str, source: str) -> None:
    """Raise TemplateProblem when a source is too large."""
    size = len(source.encode("utf-8", "replace"))
    if size > MAX_SOURCE:
        raise TemplateProblem(part, None, f"{size} bytes are too many: at most {MAX_SOURCE}")


def check_tree(part: str, tree: nodes.Template, environment: Environment) -> None:
    """Raise TemplateProblem for names that do not exist, hidden attributes and loops without bound."""
    for node in tree.find_all(nodes.Node):
        problem = _problem(node, environment)
        if problem:
            raise TemplateProblem(part, node.lineno, problem)
    _check_loops(part, tree, 0)


def _problem(node: nodes.Node, environment: Environment) -> str | None:
    for kind, word in _REFUSED.items():
        if isinstance(node, kind):
            return f"{word!r} is not possible: there are no other templates"
    # Jinja itself looks these names up only when it gets there, if they stand inside an `if`.
    if isinstance(node, nodes.Filter) and node.name not in environment.filters:
        return f"unknown filter {node.name!r}"
    if isinstance(node, nodes.Test) and node.name not in environment.tests:
        return f"unknown test {node.name!r}"
    hidden = None
    if isinstance(node, nodes.Getattr):
        hidden = node.attr
    elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
        hidden = node.arg.value
    if isinstance(hidden, str) and hidden.startswith("_"):
        return f"access to {hidden!r} is not allowed"
    return None


def _check_loops(part: str, node: nodes.Node, depth: int) -> None:
    """Loops over data are as long as the data; only `range` makes length out of nothing."""
    for child in node.iter_child_nodes():
        inner = depth
        if isinstance(child, nodes.For) and any(
            isinstance(call.node, nodes.Name) and call.node.name == "range"
            for call in [*child.iter.find_all(nodes.Call), child.iter]
            if isinstance(call, nodes.Call)
        ):
            inner += 1
            if inner > MAX_NESTED_RANGES:
                raise TemplateProblem(part, child.lineno, f"more than {MAX_NESTED_RANGES} nested ranges")
        _check_loops(part, child, inner)

"""A campaign's subject, HTML or text: compiled once, filled in for each recipient."""

from __future__ import annotations

from functools import cache
from types import TracebackType
from typing import Any, Literal

from jinja2 import Template as JinjaTemplate
from jinja2 import TemplateSyntaxError, nodes
from jinja2.exceptions import SecurityError
from jinja2.nodes import EvalContext
from jinja2.runtime import Context

from app.errors import TemplateProblem
from app.mail.fields import needed
from app.mail.pieces import Personal, PieceSandbox, Values, straight
from app.mail.quoted_printable import encode, normalise
from app.mail.sandbox import Sandbox
from app.mail.template_rules import check_size, check_tree

Part = Literal["subject", "html", "text"]

#: The largest body or subject for one recipient, in bytes.
MAX_RENDERED = 4_000_000


@cache
def _sandbox(html: bool) -> Sandbox:
    return Sandbox(html)


def values(attributes: dict[str, Any], *, name: str, email: str) -> Values:
    """What a recipient's templates see; an attribute that is null counts as missing."""
    if None in attributes.values():
        attributes = {key: value for key, value in attributes.items() if value is not None}
    return Values({**_sandbox(False).globals, **attributes, "name": name, "email": email})


def fields(template: str, part: Part = "text") -> set[str]:
    """The personal fields that a template uses without a default and outside a condition on them."""
    return set(Template(part, template).needed)


class Template:
    """Raises TemplateProblem when it cannot be compiled. May be rendered by several threads at once."""

    def __init__(self, part: Part, source: str) -> None:
        self.part = part
        check_size(part, source)
        environment = _sandbox(part == "html")
        try:
            tree = environment.parse(source)
            check_tree(part, tree, environment)
            #: The fields it cannot do without, each with the line of its first use.
            self.needed = needed(tree, set(environment.globals))
            #: Whether its literal text can be encoded in advance.
            self.straight = straight(tree)
            self._can_grow = not self.straight or tree.find(nodes.For) is not None
            #: Whether it is the same for everybody.
            self.constant = all(isinstance(node, _CONSTANT) for node in tree.find_all(nodes.Node))
            self._encoded = self.straight and part != "subject"
            if self._encoded:
                # An environment of its own: the values it remembers go when the campaign does.
                environment = PieceSandbox(part == "html")
            self._jinja = environment.from_string(source)
        except TemplateSyntaxError as error:
            raise TemplateProblem(part, error.lineno, error.message or "syntax error") from error
        except _TOO_INTRICATE as error:
            raise TemplateProblem(part, None, f"too deeply nested or too large a number: {error}") from error
        self._root: Any = self._jinja.root_render_func
        self._eval_context = EvalContext(environment)

    def text(self, personal: Values) -> str:
        """The plain rendering, its line breaks as LF. Only for subjects and what is not `straight`."""
        return "".join(map(normalise, self._run(personal)))

    def pieces(self, personal: Values) -> list[bytes]:
        """The rendering in quoted-printable."""
        return self._run(personal) if self._encoded else [encode(self.text(personal))]

    def _run(self, personal: Values) -> list[Any]:
        context: Context = (
            Personal(self._eval_context, personal) if self.straight else self._jinja.new_context(personal, shared=True)
        )
        try:
            rendered = list(self._root(context))
        except Exception as error:  # whatever a template makes Python raise is the template's problem
            line = _line(self._jinja, error.__traceback__)
            raise TemplateProblem(self.part, line, str(error) or type(error).__name__) from error
        if self._can_grow and sum(map(len, rendered)) > MAX_RENDERED:
            raise TemplateProblem(self.part, None, f"grows past {MAX_RENDERED} bytes")
        return rendered


_CONSTANT = (nodes.Output, nodes.TemplateData)
# What Python raises for a template that it cannot compile: nesting, numbers of thousands of digits.
_TOO_INTRICATE = (RecursionError, SyntaxError, ValueError, MemoryError)
# Errors that do not depend on the values.
_ALWAYS_WRONG = (OverflowError, RecursionError, SecurityError)


def _line(template: JinjaTemplate, trace: TracebackType | None) -> int | None:
    """The template's line in which an exception started, as far as the template's own code goes."""
    line = None
    while trace:
        if trace.tb_frame.f_code.co_filename == (template.filename or "<template>"):
            line = template.get_corresponding_lineno(trace.tb_lineno)
        trace = trace.tb_next
    return line


def validate(subject: str, html: str | None, text: str | None, known_fields: set[str]) -> None:
    """Raise TemplateProblem for anything in the parts of a campaign that would fail for everybody.

    `name` and `email` are always known. A last check renders each part once with made-up values, which
    finds ranges and products that are too large.
    """
    if not (html or "").strip() and not (text or "").strip():
        raise TemplateProblem("text", None, "there is no body: give an HTML part, a text part or both")
    known = known_fields | {"name", "email"}
    sample = values(dict.fromkeys(known_fields, "sample"), name="Sample", email="sample@example.org")
    parts: tuple[tuple[Part, str | None], ...] = (("subject", subject), ("html", html), ("text", text))
    for part, source in parts:
        template = Template(part, source or "")
        for field, line in template.needed.items():
            if field not in known:
                raise TemplateProblem(part, line, _unknown(field, known))
        try:
            template.pieces(sample)
        except TemplateProblem as problem:
            # Made-up values can fail in many ways that real ones do not; these ways are no matter of values.
            if problem.line is None or isinstance(problem.__cause__, _ALWAYS_WRONG):
                raise


def _unknown(field: str, known: set[str]) -> str:
    return (
        f"unknown field {field!r}; known are {', '.join(sorted(known))}. "
        f"Give it a default ({{{{ {field} | default('…') }}}}) or ask first ({{% if {field} %}})"
    )

"""Templates: the encoded rendering equals the plain one, defaults mean what people mean, limits hold."""

from __future__ import annotations

import quopri
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError

from app.errors import TemplateProblem
from app.mail.sandbox import Sandbox
from app.mail.template import Part, Template, fields, validate, values
from tests.test_quoted_printable import assert_lines_are_valid, decoded

SANDBOXES = {"html": Sandbox(html=True), "text": Sandbox(html=False)}

PARTS: st.SearchStrategy[Part] = st.sampled_from(("html", "text"))
WORDS = st.lists(
    st.sampled_from(
        ["a", "long-word " * 9, " ", "  ", "\n", "\r\n", "=", ".", "..", "<b>", "&", "é", "王", "😀", "\t"]
    ),
    max_size=12,
).map("".join)
VALUES = st.one_of(WORDS, st.text(st.characters(exclude_categories=["Cs"])), st.integers(), st.booleans())
FIELDS = ("name", "email", "city")
PRINTED = st.one_of(
    st.sampled_from(FIELDS).map("{{{{ {} }}}}".format),
    st.sampled_from(
        [
            "{{ city | default('.=\\n x') }}",
            "{{ absent | default('friend') }}",
            "{{ absent or city }}",
            "{{ city | string | upper }}",
            "{{ name | replace('a', '<') | safe }}",
            "{{ name ~ '.' ~ city }}",
            "{{ '=.' }}{{ 1.5 }}{{ [1, 'a'] }}",
            "{{ name if city else '\\n.' }}",
        ]
    ),
)


def _shapes(inner: st.SearchStrategy[str], *shapes: str) -> st.SearchStrategy[str]:
    """One of the shapes, with templates where it has ① and ②."""

    def fill(drawn: tuple[str, str, str]) -> str:
        shape, one, two = drawn
        return shape.replace("①", one).replace("②", two)

    return st.tuples(st.sampled_from(shapes), inner, inner).map(fill)


def _grow(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return _shapes(
        inner,
        "①②",
        "{% if city %}①{% else %}②{% endif %}",
        "{% for i in ['=', '.'] %}①{{ loop.index }}{{ i }}②{% endfor %}",
        "{% set city = 'é ' ~ name %}①{% if city == 'a' -%} ② {%- endif %}",
        "{% with city = name %}①{% endwith %}②",
    )


def _grow_roundabout(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return _shapes(
        inner,
        "{% filter upper %}①{% endfilter %}②",
        "{% macro m(x) %}①{{ x }}{% endmacro %}②{{ m('<.') }}",
        "{% set held %}①{% endset %}②{{ held }}",
        "{% autoescape false %}①{% endautoescape %}②",
        "{% macro c() %}{{ caller() }}{% endmacro %}{% call c() %}①{% endcall %}②",
        "{% block a %}①{% endblock %}②{{ self.a() }}",
        "{% for i in [1, [2]] recursive %}①{{ loop([]) }}②{% endfor %}",
    )


STRAIGHT = st.recursive(st.one_of(WORDS, PRINTED), _grow, max_leaves=12)
ROUNDABOUT = STRAIGHT.flatmap(lambda t: _grow_roundabout(st.one_of(st.just(t), STRAIGHT)))


def filled(template: Template, attributes: dict[str, Any], name: str = "Ada") -> str:
    return quopri.decodestring(b"".join(template.pieces(values(attributes, name=name, email="a@example.org")))).decode()


def assert_same_as_plain(part: Part, source: str, name: str, city: Any, *, straight: bool) -> None:
    template = Template(part, source)
    assert template.straight is straight
    personal = values({"city": city}, name=name, email="a@example.org")
    known = {"name": _lf(name), "city": _lf(city) if isinstance(city, str) else city, "email": "a@example.org"}
    try:
        expected = decoded(SANDBOXES[part].from_string(source).render(known))
    except UndefinedError:  # a name that is set further down in the same loop is not there yet
        with pytest.raises(TemplateProblem, match="missing"):
            template.pieces(personal)
        return
    pieces = b"".join(template.pieces(personal))
    assert quopri.decodestring(pieces) == expected
    assert_lines_are_valid(pieces)


def _lf(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


@given(part=PARTS, source=STRAIGHT, name=WORDS, city=VALUES)
def test_encoding_literal_text_in_advance_changes_nothing(part: Part, source: str, name: str, city: Any) -> None:
    assert_same_as_plain(part, source, name, city, straight=True)


@given(
    part=PARTS, source=ROUNDABOUT, name=WORDS.map(_lf), city=VALUES.map(lambda v: _lf(v) if isinstance(v, str) else v)
)
def test_text_that_passes_through_something_is_encoded_afterwards(
    part: Part, source: str, name: str, city: Any
) -> None:
    assert_same_as_plain(part, source, name, city, straight=False)


@pytest.mark.parametrize("part", ["html", "text"])
@pytest.mark.parametrize(
    "source",
    [
        "{{ tags | join(', <br>') }}",
        "{{ tags | map('upper') | list | tojson }}",
        "{{ tags | select('equalto', 'a') | first }}{{ tags | last | e }}",
        "{{ orders | map(attribute='title') | join }}{{ orders | sum(attribute='price') }}",
        "{{ orders | sort(attribute='price') | map(attribute='title') | join('&') }}",
        "{{ name | urlize }}{{ 'see https://example.org/=?' | urlize }}{{ name | striptags | truncate(4) }}",
        "{{ orders[0].price | round(1) }}{{ 7 // 2 * 3 ** 2 % 5 }}{{ '%' }}",
        "{% for o in orders if o.price > 1 %}{{ loop.cycle('<', '>') }}{{ o.title }}{% else %}.{% endfor %}",
        "{% set ns = namespace(n=0) %}{% for o in orders %}{% set ns.n = ns.n + o.price %}{% endfor %}{{ ns.n }}",
        "{{ name.upper() }}{{ orders[0].get('title') }}{% for k, v in orders[0].items() %}{{ k }}{{ v }}{% endfor %}",
        "{% raw %}{{ .= }}{% endraw %}{# none #}\n  {%- if true %}\n.{% endif %}\n\n",
        "{{ name | safe }}{{ name | forceescape }}{{ ('<' | safe) ~ name }}{{ '<b>%s' | e }}",
    ],
)
def test_the_usual_filters_and_methods_render_as_in_plain_jinja(part: Part, source: str) -> None:
    attributes = {"tags": ["a", "<b>"], "orders": [{"title": "<=", "price": 2.25}, {"title": "x", "price": 1}]}
    template = Template(part, source)
    assert template.straight
    plain = SANDBOXES[part].from_string(source).render(attributes, name="<A&b>")
    assert filled(template, attributes, "<A&b>") == decoded(plain).decode()


def test_html_is_escaped_and_text_is_not() -> None:
    assert filled(Template("html", "{{ name }}{{ name | safe }}"), {}, "<i>") == "&lt;i&gt;<i>"
    assert filled(Template("text", "{{ name }}"), {}, "<i>") == "<i>"


def test_a_remembered_value_is_not_mistaken_for_an_equal_one_of_another_kind() -> None:
    template = Template("html", "{{ a }} {{ b }} {{ c | safe }} {{ c }}")
    assert filled(template, {"a": 1, "b": True, "c": "<"}) == "1 True < &lt;"
    assert filled(template, {"a": "1", "b": 1.0, "c": "<"}) == "1 1.0 < &lt;"


def test_more_different_values_than_are_remembered_render_correctly() -> None:
    template = Template("text", "{{ name }}")
    for i in range(5000):
        assert filled(template, {}, f"n{i}") == f"n{i}"
    assert filled(template, {}, "n0") == "n0"


@pytest.mark.parametrize("empty", [{}, {"city": ""}, {"city": None}])
@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ city | default('there') }}", "there"),
        ("{{ city | d('there') }}", "there"),
        ("{{ city or 'there' }}", "there"),
        ("{% if city %}in {{ city }}{% else %}away{% endif %}", "away"),
        ("{% if city == 'Rome' %}Roman{% endif %}.", "."),
    ],
)
def test_an_empty_field_counts_as_a_missing_one(empty: dict[str, Any], source: str, expected: str) -> None:
    assert filled(Template("text", source), empty) == expected


def test_an_empty_name_takes_the_default_and_zero_does_not() -> None:
    template = Template("text", "{{ name | default('friend') }} {{ points | default(7) }}")
    assert filled(template, {"points": 0}, "") == "friend 0"


@pytest.mark.parametrize(
    "source",
    [
        "\n{{ city }}",
        "\n{{ city | upper }}",
        "\n{% for x in city %}{% endfor %}",
        "\n{% filter upper %}{{ city }}{% endfilter %}",
        "\n{{ address.city }}",
        "\n{{ address['city'] }}",
    ],
)
@pytest.mark.parametrize("attributes", [{"address": {}}, {"city": None, "address": {"city": None}}])
def test_a_missing_field_fails_with_its_name_and_line(source: str, attributes: dict[str, Any]) -> None:
    with pytest.raises(TemplateProblem, match="'city' is missing") as caught:
        filled(Template("text", source), attributes)
    assert (caught.value.part, caught.value.line) == ("text", 2)


def test_an_item_wins_over_a_method_of_the_same_name() -> None:
    assert (
        filled(Template("text", "{{ order.items }} {{ order.keys() | first }}"), {"order": {"items": 3}}) == "3 items"
    )


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ name }} {{ city | default('x') }} {{ a or b }}", {"name", "b"}),
        ("{% if city %}{{ city }}{% endif %}{% if not zip %}{% else %}{{ zip }}{% endif %}", set()),
        ("{% if city is defined and zip %}{{ city }}{{ zip }}{% endif %}", set()),
        ("{% if city or zip %}{{ city }}{% endif %}", {"city"}),
        ("{% if city is undefined %}{{ other }}{% else %}{{ city }}{% endif %}", {"other"}),
        ("{% if city %}{% elif zip %}{{ city }}{% endif %}", {"city"}),
        ("{{ city if city else 'x' }}{{ zip if city }}", {"zip"}),
        ("{{ city and city | upper }}", {"city"}),
        ("{% if city == 'Rome' %}{{ city }}{% endif %}", set()),
        ("{% if city != 'Rome' %}{{ city }}{% endif %}", {"city"}),
        ("{% if city | default('') %}{{ city }}{% endif %}", set()),
        ("{% if city | default('Rome') %}{{ city }}{% endif %}", {"city"}),
        ("{% for order in orders %}{{ order.title }}{{ loop.index }}{{ city }}{% endfor %}", {"orders", "city"}),
        ("{% set city = 'x' %}{{ city }}{% macro m(a) %}{{ a }}{{ b }}{% endmacro %}{{ m(c) }}", {"b", "c"}),
        ("{{ x | default(y) }}{{ range(n) | list }}{{ address.city | default('x') }}", {"y", "n", "address"}),
    ],
)
def test_the_fields_a_template_needs(source: str, expected: set[str]) -> None:
    assert fields(source) == expected


@pytest.mark.parametrize(
    ("source", "line", "problem"),
    [
        ("a\n{{ name", 2, "unexpected end"),
        ("a\n{% if name %}", 2, "endif"),
        ("\n\n{{ name | shout }}", 3, "unknown filter 'shout'"),
        ("\n{% if email %}{{ name | shout }}{% endif %}", 2, "unknown filter 'shout'"),
        ("\n{% if name is loud %}{% endif %}", 2, "unknown test 'loud'"),
        ("\n{{ town }}", 2, "unknown field 'town'"),
        ("{% if name %}\n{{ town }}{% endif %}", 2, "unknown field 'town'"),
        ("\n{{ ''.__class__ }}", 2, "'__class__' is not allowed"),
        ("\n{{ ''['__class__'] }}", 2, "'__class__' is not allowed"),
        ("\n{{ name.format(1) }}", 2, "unsafe"),
        ("\n{{ '%0999999999d' % 1 }}", 2, "formats no text"),
        ("\n{% for i in range(10 ** 9) %}{% endfor %}", 2, "too big"),
        ("\n{% for i in range(5000) %}{% endfor %}", 2, "limited to 1000"),
        ("\n{{ 'x' * 10 ** 9 }}", 2, "at most"),
        ("\n{{ 10 ** (10 ** 10) }}", 2, "too large"),
        ("\n{{ name | center(10 ** 9) }}", 2, "center is limited"),
        ("{% macro m() %}\n{{ m() }}{% endmacro %}{{ m() }}", 2, "recursion"),
        ("\n{% include 'other' %}", 2, "include"),
        (
            "{% for a in range(9) %}{% for b in range(9) %}\n{% for c in range(9) %}{% endfor %}" + "{% endfor %}" * 2,
            2,
            "nested ranges",
        ),
        (
            "{% for a in range(999) %}{% for b in range(999) %}five5{% endfor %}{% endfor %}",
            None,
            "grows past",
        ),
        ("x" * 1_000_001, None, "too many"),
        ("{{ " + "(" * 9000 + "1" + ")" * 9000 + " }}", None, "nested"),
        ("{% for x in city %}" * 25 + "{% endfor %}" * 25, None, "nested"),
        ("{{ " + "9" * 9000 + " }}", None, "number"),
    ],
)
@pytest.mark.parametrize("part", ["html", "text"])
def test_validation_names_part_and_line(part: str, source: str, line: int | None, problem: str) -> None:
    with pytest.raises(TemplateProblem, match=problem) as caught:
        validate("Hello", source if part == "html" else None, source if part == "text" else None, {"city"})
    assert (caught.value.part, caught.value.line) == (part, line)


def test_validation_covers_the_subject() -> None:
    with pytest.raises(TemplateProblem, match="subject, line 1: unknown field 'town'"):
        validate("Hello {{ town }}", None, "text", {"city"})


@pytest.mark.parametrize("body", [None, "", " \n"])
def test_a_campaign_without_a_body_is_refused(body: str | None) -> None:
    with pytest.raises(TemplateProblem, match="there is no body"):
        validate("Hello", body, body, set())


def test_sound_templates_pass_validation_whatever_kind_their_values_are() -> None:
    validate(
        "{{ name }} owes {{ price * 2 }}",
        "{% for order in orders %}{{ order.title }}{% endfor %}{% if town %}{{ town.name }}{% endif %}",
        "{{ city }} {{ price + 1 }} {{ 1 / (price - 1) }}",
        {"city", "price", "orders"},
    )


@pytest.mark.parametrize(
    "source",
    [
        "{{ name.__class__ }}",
        "{{ name | map(attribute='__class__') | list }}",
        "{{ n.real }}",
        "{{ tags.append('x') }}",
        "{{ tags.copy() }}",
        "{{ m.name }}{% macro m() %}{% endmacro %}",
        "{{ name.encode() }}",
        "{{ loop }}",
        "{{ range.__name__ }}",
    ],
)
def test_a_template_reaches_no_attribute_of_a_python_object(source: str) -> None:
    with pytest.raises(TemplateProblem):
        filled(Template("text", source), {"n": 1, "tags": ["x"]})

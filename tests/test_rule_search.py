"""Rules of suppression are found by their beginning, page by page, and by the address they hold for."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from app.db import Db
from app.errors import UsageError
from app.lists.rules import count_rules, search_rules
from app.lists.suppressing import Wanted, add_rules, reach_all
from app.mail.suppression import parse_rule


def add(db: Db, *rules: str) -> None:
    add_rules(db, [Wanted(parse_rule(rule), f"why {rule}") for rule in rules])


def found(db: Db, text: str, limit: int = 100) -> list[str]:
    """All pages together."""
    rules, after = [], None
    while True:
        page = search_rules(db, text, limit=limit, after=after)
        rules += [str(one.rule) for one in page.found]
        after = page.after
        if after is None:
            return rules


@pytest.fixture
def some(db: Db) -> Db:
    add(db, "@example.com", "@mail.example.com", "@example.org", "@xn--bcher-kva.example")
    reach_all(db)
    add(db, "@examples.net", "ann@example.com", "anna@other.test", "example@here.test", "bob@example.com")
    return db


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ann", ["ann@example.com", "anna@other.test"]),
        ("  ANN@ex", ["ann@example.com"]),
        ("ann@example.com", ["@example.com", "ann@example.com"]),
        ("carl@mail.example.com", ["@mail.example.com", "@example.com"]),
        ("x@deep.below.mail.example.com", ["@mail.example.com", "@example.com"]),
        ("example", ["@examples.net", "@example.com", "@example.org", "example@here.test"]),
        ("@example", ["@examples.net", "@example.com", "@example.org"]),
        ("@", ["@examples.net", "@example.com", "@example.org", "@mail.example.com", "@xn--bcher-kva.example"]),
        ("@bücher.example", ["@xn--bcher-kva.example"]),
        ("Bücher.Example", ["@xn--bcher-kva.example"]),
        ("%", []),
        ("ann_", []),
        ("ü", []),
        ("\U0010ffff", []),
    ],
)
@pytest.mark.parametrize("limit", [1, 2, 100])
def test_what_begins_so_is_found(some: Db, text: str, expected: list[str], limit: int) -> None:
    assert found(some, text, limit) == expected


def test_a_rule_shows_why_since_when_and_whether_it_has_reached_everybody(some: Db) -> None:
    opening, done = search_rules(some, "@example", limit=2).found
    assert (str(opening.rule), opening.is_opening, opening.reason) == ("@examples.net", True, "why @examples.net")
    assert (str(done.rule), done.is_opening) == ("@example.com", False)
    assert count_rules(some) == {"addresses": 4, "domains": 5}


def test_a_place_that_is_none_of_ours_is_refused(db: Db) -> None:
    for after in ("x", "W10", "ü"):
        with pytest.raises(UsageError):
            search_rules(db, "", limit=5, after=after)


@examples(
    max_examples=25, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(numbers=st.sets(st.integers(1, 60), max_size=40), limit=st.integers(1, 7))
def test_pages_show_every_rule_once(db: Db, numbers: set[int], limit: int) -> None:
    db.run("DELETE FROM suppressions")
    rules = [f"@d{n}.test" if n % 3 == 0 else f"p{n}@x.test" for n in numbers]
    if rules:
        add(db, *rules)
    assert sorted(found(db, "", limit)) == sorted(rules)

"""Finding subscribers: by address, name and later words of a name, page by page, each once."""

from __future__ import annotations

import random
from base64 import urlsafe_b64encode

import pytest

from app.db import Db
from app.errors import UsageError
from app.lists import search as searching
from app.lists.search import members, search
from tests.sending import add_list, add_people
from tests.statements import recorded

FIRST = ("Ann", "Anna", "ANNE", "ann", "Bob", "Ünal", "Дима", "伟", "Al", "")
LAST = ("Annan", "Müller", "Bobson", "Petrov", "李", "al Annaz", "")


def add(db: Db, people: list[tuple[str, str]]) -> None:
    db.run_many(
        "INSERT INTO subscribers (email, email_key, name, attributes, created_at, updated_at)",
        [(email, email, name, "{}", 1, 1) for email, name in people],
    )


def all_pages(db: Db, text: str, limit: int) -> list[str]:
    """The addresses on every page, in order."""
    found: list[str] = []
    after = None
    while True:
        page = search(db, text, limit=limit, after=after)
        assert len(page.found) <= limit
        found += [one.email for one in page.found]
        after = page.after
        if after is None:
            return found
        assert len(page.found) == limit


@pytest.fixture
def crowd(db: Db) -> list[tuple[str, str]]:
    """Some hundred people of few names, so that many are called the same."""
    chance = random.Random(7)
    people = []
    for number in range(300):
        name = f"{chance.choice(FIRST)} {chance.choice(LAST)}".strip()
        people.append((f"{chance.choice(('ann', 'bob', 'x', 'mü'))}.{number}@x.test", name))
    add(db, people)
    return people


def ways(text: str, person: tuple[str, str]) -> int | None:
    """By which of the three ways somebody is found."""
    email, name = person[0], person[1].lower()
    wanted = text.lower()
    if email.startswith(wanted):
        return 0
    if name.startswith(wanted):
        return 1
    return 2 if f" {wanted}" in name else None


@pytest.mark.parametrize("limit", [1, 7, 50, 500])
@pytest.mark.parametrize(
    "text", ["ann", "ANN", "Bob", "ünal", "Müller", "дима", "李", "al", "al anna", "x.1", "zzz", "%"]
)
def test_everybody_who_fits_is_found_once_whatever_the_page(
    db: Db, crowd: list[tuple[str, str]], text: str, limit: int
) -> None:
    found = all_pages(db, text, limit)
    fitting = {email: way for email, name in crowd if (way := ways(text, (email, name))) is not None}
    assert len(found) == len(set(found))
    assert set(found) == set(fitting)
    assert [fitting[email] for email in found] == sorted(fitting.values()), "addresses, then names, then later words"


def test_without_a_text_the_newest_come_first(db: Db) -> None:
    add_people(db, 5)
    assert all_pages(db, "  ", 2) == [f"p{n}@example.test" for n in (5, 4, 3, 2, 1)]
    assert search(db, "", limit=5).after is None


def test_an_address_is_found_whatever_its_case(db: Db) -> None:
    add(db, [("ann@x.test", "Zoe")])
    assert [one.name for one in search(db, " ANN@X.Test ", limit=5).found] == ["Zoe"]


def test_in_a_huge_table_later_words_are_not_looked_for(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    add(db, [("a@x.test", "Zoe Ann"), ("b@x.test", "Ann Zoe")])
    assert all_pages(db, "ann", 5) == ["b@x.test", "a@x.test"]
    monkeypatch.setattr(searching, "MOST_READ", 1)
    assert all_pages(db, "ann", 5) == ["b@x.test"]


def test_of_an_address_no_later_word_is_looked_for(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    add(db, [("ann@x.test", "Ann"), ("bob@x.test", "Bob (ann@x.test)"), ("c@x.test", "ann@x.test")])
    asked = recorded(db, monkeypatch)
    assert all_pages(db, "ann@x.test", 10) == ["ann@x.test", "c@x.test"]
    assert not any("INSTR" in sql for sql in asked)
    assert all_pages(db, "(ann", 10) == ["bob@x.test"]


def test_members_come_in_pages_by_their_status(db: Db) -> None:
    people = add_people(db, 7)
    news = add_list(db, "news", people[:5])
    db.run("UPDATE memberships SET status = 'unsubscribed' WHERE subscriber_id = ?", people[1])
    first = members(db, news, "active", limit=3)
    assert [one.id for one in first.found] == [people[0], people[2], people[3]]
    second = members(db, news, "active", limit=3, after=first.after)
    assert ([one.id for one in second.found], second.after) == ([people[4]], None)
    assert [one.id for one in members(db, news, "unsubscribed", limit=3).found] == [people[1]]


@pytest.mark.parametrize(
    "after",
    [
        "x",
        "[]",
        "bnVsbA",
        "ä",
        *(urlsafe_b64encode(t).decode() for t in (b'[0,"a"]', b'[9,"a",1]', b'[0,"\\ud800",1]')),
    ],
)
def test_a_place_that_is_none_of_ours_is_refused(db: Db, after: str) -> None:
    with pytest.raises(UsageError, match="leads nowhere"):
        search(db, "a", limit=5, after=after)

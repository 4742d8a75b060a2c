"""Targets in the database: whose they are, how many, and that one is gone when it is removed."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from app.db import Db
from app.errors import NotFound, Refused
from app.schedules.checks import store
from app.schedules.checks.store import (
    MOST_TARGETS,
    add_target,
    find_target,
    remove_target,
    switch_target,
    targets_of,
    targets_to_check,
)
from tests.checks.site import http, tcp
from tests.checks.targets import add, add_user, in_threads

ALL = http(
    "https://shop.example/", name="shop", expect_status="200", keyword="ok", not_keyword="bad", redirects=0,
    timeout_seconds=3, confirmations=4, webhook="https://hook.example/x",
)  # fmt: skip


def test_a_target_comes_back_as_it_was_described(db: Db) -> None:
    user = add_user(db)
    off = replace(ALL, name="off", enabled=False)
    ids = [add(db, user, one) for one in (ALL, tcp(25, keyword="220"), off)]
    assert [find_target(db, one).wanted for one in ids] == [ALL, tcp(25, keyword="220"), off]
    assert [one.wanted.name for one in targets_of(db, user)] == ["127.0.0.1:25", "off", "shop"]
    assert [one.id for one in targets_to_check(db, user)] == ids[:2]


def test_a_name_is_given_once_to_each_user(db: Db) -> None:
    ann, bob = add_user(db), add_user(db, "bob@example.test")
    add(db, ann, ALL)
    with pytest.raises(Refused, match="a target named 'shop' already"):
        add(db, ann, ALL)
    add(db, bob, ALL)


def test_nobody_has_targets_without_end_not_even_two_at_once(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    user = add_user(db)
    for number in range(MOST_TARGETS - 1):
        add(db, user, replace(ALL, name=f"t{number}"))
    names, value = iter(range(1000)), db.value

    def slow(sql: str, *params: object) -> object:
        found = value(sql, *params)
        if "COUNT" in sql:
            time.sleep(0.2)  # so that whoever may count beside us does
        return found

    monkeypatch.setattr(db, "value", slow)
    errors = in_threads(lambda: add(db, user, replace(ALL, name=f"last {next(names)}")), 5, db)
    assert len(targets_of(db, user)) == MOST_TARGETS
    assert [type(error) for error in errors] == [Refused] * 4
    assert f"{MOST_TARGETS} are allowed" in str(errors[0])


def test_nobody_gets_a_target_who_is_not_there(db: Db) -> None:
    with pytest.raises(NotFound):
        add_target(db, 4711, ALL, 1)


@pytest.mark.parametrize("verb", ["find", "remove", "switch"])
def test_a_target_of_another_user_is_none_of_yours(db: Db, verb: str) -> None:
    ann, bob = add_user(db), add_user(db, "bob@example.test")
    target = add(db, ann, ALL)
    with pytest.raises(NotFound, match=f"there is no target {target} of this user"):
        if verb == "find":
            find_target(db, target, bob)
        elif verb == "remove":
            remove_target(db, target, 1, bob)
        else:
            switch_target(db, target, False, 1, bob)
    assert find_target(db, target, ann).wanted.enabled


def test_a_removed_target_is_gone_once(db: Db) -> None:
    target = add(db, add_user(db), ALL)
    assert [type(error) for error in in_threads(lambda: remove_target(db, target, 5), 4, db)] == [NotFound] * 3
    assert db.rows("SELECT target_id, removed_at FROM removed_targets") == [(target, 5)]
    with pytest.raises(NotFound):
        find_target(db, target)


def test_the_id_of_a_removed_target_is_not_given_again(db: Db) -> None:
    """Its results are still there for a while."""
    user = add_user(db)
    target = add(db, user, ALL)
    remove_target(db, target, 5)
    assert add(db, user, ALL) > target


def test_every_column_is_known_to_the_code(db: Db) -> None:
    columns = {column.name for column in db.peewee.get_columns("targets")}
    assert columns == {name.strip() for name in store._COLUMNS.split(",")} | {"tidied_at"}

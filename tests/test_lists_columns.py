"""What the columns of a file mean."""

from __future__ import annotations

import pytest

from app.errors import UsageError
from app.lists.columns import BadRow, Person, Wish, attribute_key, find_columns

LISTMONK = ["uuid", "email", "name", "attributes", "status", "created_at", "updated_at"]


def person(header: list[str], cells: list[str]) -> Person:
    return find_columns(header).person(cells)


@pytest.mark.parametrize(
    "header",
    ["email", "EMAIL", " E-Mail ", "Email Address", "e_mail", "E-Mail-Adresse", "邮箱", "电子邮件", "メールアドレス"],
)
def test_the_column_of_the_address_has_many_names(header: str) -> None:
    assert person(["id", header], ["7", " Ann@X.test "]).email == "Ann@x.test"


@pytest.mark.parametrize(
    ("header", "cells", "name"),
    [
        (["email", "name"], ["a@x.test", " Ann  "], "Ann"),
        (["email", "姓名"], ["a@x.test", "李雷"], "李雷"),
        (["Email Address", "First Name", "Last Name"], ["a@x.test", "Ann", "Lee"], "Ann Lee"),
        (["Email Address", "First Name", "Last Name"], ["a@x.test", "", "Lee"], "Lee"),
        (["E-Mail", "Nachname", "Vorname"], ["a@x.test", "Groß", "Uwe"], "Uwe Groß"),
        (["email", "name", "first name"], ["a@x.test", "Ann Lee", "Ann"], "Ann Lee"),
        (["email", "name"], ["a@x.test", "Ann\r\nBcc: v@x.test\x1b"], "Ann Bcc: v@x.test"),
        (["email"], ["a@x.test"], ""),
    ],
)
def test_the_name_is_found_or_joined(header: list[str], cells: list[str], name: str) -> None:
    assert person(header, cells).name == name


def test_other_columns_become_attributes_that_a_template_can_name() -> None:
    found = person(
        ["email", "First Name", " City ", "2nd Phone", "城市", "", "empty"],
        ["a@x.test", "Ann", " Oslo ", "1", "京", "x", " "],
    )
    assert found.attributes == {"first_name": "Ann", "city": "Oslo", "_2nd_phone": "1", "城市": "京"}
    assert all(key.isidentifier() for key in found.attributes)


def test_any_header_gives_an_identifier() -> None:
    for header in ("%", "a-b", "1", "Größe (cm)", "①", "__x__", "é\u0301"):
        assert attribute_key(header).isidentifier(), header


@pytest.mark.parametrize(
    ("status", "wish"),
    [
        *(("", Wish.JOIN), ("Active", Wish.JOIN), ("subscribed", Wish.JOIN), ("enabled", Wish.JOIN)),
        *(("UNSUBSCRIBED", Wish.LEAVE), ("disabled", Wish.LEAVE), ("blocklisted", Wish.BLOCK)),
    ],
)
def test_a_status_is_a_wish(status: str, wish: Wish) -> None:
    assert person(["email", "status"], ["a@x.test", status]).wish is wish


def test_a_listmonk_export_is_read_as_it_is() -> None:
    cells = ["1c2", "a@x.test", "Ann", '{"city": "Oslo", "age": 7, "none": null}', "blocklisted", "2024", "2025"]
    found = person(LISTMONK, cells)
    assert (found.name, found.attributes, found.wish) == ("Ann", {"city": "Oslo", "age": 7}, Wish.BLOCK)


@pytest.mark.parametrize("text", ["[1]", "{", '{"a": NaN}', '{"a": "\\ud800"}', '{"a":' + "[" * 60_000, "1"])
def test_listmonk_attributes_that_are_no_object_are_rejected(text: str) -> None:
    with pytest.raises(BadRow, match="attributes"):
        person(LISTMONK, ["1", "a@x.test", "Ann", text, "enabled", "", ""])


@pytest.mark.parametrize("column", ["UNSUB_TIME", "CLEAN_TIME"])
def test_mailchimps_archives_of_those_who_left_unsubscribe(column: str) -> None:
    header = ["Email Address", "First Name", "Last Name", column]
    assert person(header, ["a@x.test", "Ann", "Lee", "2024-01-01 10:00:00"]).wish is Wish.LEAVE
    with pytest.raises(BadRow, match="UNSUB_TIME"):
        person(header, ["a@x.test", "Ann", "Lee", ""])


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        (["", "Ann", ""], "no address"),
        (["ann", "Ann", ""], "invalid address"),
        (["a@x.test", "Ann"], "2 columns instead of 3"),
        (["a@x.test", "Ann", "", ""], "4 columns instead of 3"),
        (["a@x.test", "Ann", "maybe"], "status 'maybe' is none of active"),
        (["a@x.test", "A" * 201, ""], "name is longer than 200"),
        (["a" * 65 + "@x.test", "Ann", ""], "longer than 64"),
    ],
)
def test_a_bad_row_has_its_reason(cells: list[str], reason: str) -> None:
    with pytest.raises(BadRow, match=reason):
        person(["email", "name", "status"], cells)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (["name", "city"], "the header has: name, city"),
        (["email", "city", "City"], "'city' and 'City'"),
        (["email", "first name", "first_name"], "same name"),
        (["email", "e-mail"], "'email' and 'e-mail'"),
        (["email", "name", "full name"], "'name' and 'full name'"),
    ],
)
def test_a_header_that_is_no_help_is_refused_with_what_it_has(header: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        find_columns(header)

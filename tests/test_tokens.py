"""Tokens: shown once, stored as a hash, ended at once."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator

import pytest

from app import config
from app.cli import tokens
from app.cli.running import run
from app.config import Settings
from app.db import Db
from app.errors import NotFound, Refused
from app.models.tables import Token
from app.models.tokens import PREFIX, SCOPES, USE_MS, allows, create_token, find_token, note_use, revoke_token
from tests.web import NOW


@pytest.fixture
def home(db: Db, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    monkeypatch.setenv("MAILCREW_HOME", str(settings.home))
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    config.settings.cache_clear()
    yield settings
    config.settings.cache_clear()


def command(*arguments: str) -> int:
    parser = argparse.ArgumentParser(prog="mailcrew")
    tokens.add(parser.add_subparsers(required=True))
    try:
        return run(parser, ["tokens", *arguments])
    except SystemExit as end:
        return int(end.code or 0)


def test_the_model_has_exactly_the_columns_of_the_migrated_schema(db: Db) -> None:
    assert {column.name for column in db.peewee.get_columns("tokens")} == set(Token._meta.columns)


def test_create_prints_the_token_and_nothing_else(home: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("create", "grafana", "--scope", "read") == 0
    said = capsys.readouterr()
    found = find_token(said.out.removesuffix("\n"))
    assert found is not None
    assert (found.name, found.scope, said.err) == ("grafana", "read", "")


def test_a_token_is_for_everything_unless_a_scope_is_given(home: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("create", "me") == 0
    assert Token.get(Token.name == "me").scope == "admin"


def test_the_database_holds_only_the_hash_of_a_token(db: Db) -> None:
    token = create_token("me", "admin", NOW)
    (row,) = db.rows("SELECT * FROM tokens")
    assert token.removeprefix(PREFIX) not in str(row)
    assert hashlib.sha256(token.encode()).hexdigest() in row
    # 32 random bytes are 43 letters of base64.
    assert len(token.removeprefix(PREFIX)) == 43
    assert create_token("you", "admin", NOW) != token


def test_a_revoked_token_is_worth_nothing_and_revoking_again_is_refused(db: Db) -> None:
    token = create_token("me", "admin", NOW)
    revoke_token("me", NOW + 1)
    assert find_token(token) is None
    with pytest.raises(Refused):
        revoke_token("me", NOW + 2)
    with pytest.raises(NotFound):
        revoke_token("nobody", NOW)
    assert Token.get().revoked_at == NOW + 1


def test_a_name_is_taken_once_even_after_its_token_was_revoked(db: Db) -> None:
    first = create_token("me", "read", NOW)
    with pytest.raises(Refused):
        create_token("me", "admin", NOW)
    assert find_token(first) is not None
    revoke_token("me", NOW)
    with pytest.raises(Refused):
        create_token("me", "read", NOW)


@pytest.mark.parametrize("presented", ["", "x", PREFIX, "é", "\x00", "a" * 10_000])
def test_what_was_never_a_token_is_not_found(db: Db, presented: str) -> None:
    create_token("me", "admin", NOW)
    assert find_token(presented) is None


def test_the_last_use_is_written_down_once_a_minute(db: Db) -> None:
    token = create_token("me", "admin", NOW)
    uses = (0, 1, USE_MS - 1, USE_MS, USE_MS + 1)
    seen = []
    for later in uses:
        found = find_token(token)
        assert found is not None
        note_use(found, NOW + later)
        seen.append((Token.get().last_used_at or 0) - NOW)
    assert seen == [0, 0, 0, USE_MS, USE_MS]


def test_each_scope_includes_those_below_it() -> None:
    allowed = {(scope, needed) for scope in SCOPES for needed in SCOPES if allows(scope, needed)}
    assert allowed == {
        ("read", "read"), ("send", "read"), ("send", "send"),
        ("admin", "read"), ("admin", "send"), ("admin", "admin"),
    }  # fmt: skip
    assert not allows("of a later version", "read")


@pytest.mark.parametrize("arguments", [["", "--scope", "read"], ["a b"], ["-x"], ["a" * 101], ["me", "--scope", "all"]])
def test_what_cannot_be_a_token_is_refused(
    home: Settings, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert command("create", *arguments) == 2
    assert capsys.readouterr().out == ""
    assert Token.select().count() == 0


def test_the_list_shows_names_and_no_token(home: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    token = create_token("me", "send", NOW)
    create_token("old", "read", NOW)
    assert command("revoke", "old") == 0
    capsys.readouterr()
    assert command("list", "--json") == 0
    out = capsys.readouterr().out
    old, me = sorted(json.loads(out), key=lambda one: bool(one["name"] == "me"))
    assert set(me) == {"id", "name", "scope", "created_at", "last_used_at", "revoked_at"}
    assert (me["name"], me["scope"], me["revoked_at"]) == ("me", "send", None)
    assert old["revoked_at"]
    assert command("list") == 0
    assert token not in out + capsys.readouterr().out


def test_the_command_says_what_is_not_there(home: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("revoke", "nobody") == 1
    assert "nobody" in capsys.readouterr().err
    assert command("list") == 0
    assert "tokens create" in capsys.readouterr().out

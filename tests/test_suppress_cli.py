"""`mailcrew suppress` as people and scripts use it, and the files it reads."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app import config
from app.cli.main import main
from app.config import Settings
from app.db import Db
from app.errors import UsageError
from app.lists.rule_file import RulesResult, import_rules
from app.lists.suppressing import listed
from tests.sending import add_people


@pytest.fixture
def home(db: Db, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """The commands see this test's home and database; three people are subscribed."""
    monkeypatch.setenv("MAILCREW_HOME", str(settings.home))
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    config.settings.cache_clear()
    add_people(db, 3)
    yield settings
    config.settings.cache_clear()


def json_of(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def load(db: Db, tmp_path: Path, text: str | bytes, **more: Any) -> RulesResult:
    data = text if isinstance(text, bytes) else text.encode()
    more = {"reason": "imported", "file_name": "rules.csv", "rejects_in": tmp_path / "rejects", **more}
    result = import_rules(db, io.BytesIO(data), **more)
    assert result.read == result.created + result.unchanged + result.rejected
    return result


def rules(db: Db) -> dict[str, str]:
    return {str(one.rule): one.reason for one in listed(db)}


def test_rules_are_added_listed_and_removed(home: Settings, db: Db, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["suppress", "list"]) == 0
    assert "no rules yet" in capsys.readouterr().err
    assert main(["suppress", "add", "P1@Example.test", "--reason", "complained"]) == 0
    assert capsys.readouterr().out == "p1@example.test is suppressed; 1 subscriber is blocked\n"
    assert main(["suppress", "add", "@example.test", "--json"]) == 0
    assert json_of(capsys) == {"rule": "@example.test", "kind": "domain", "created": True, "blocked": 2}
    assert main(["suppress", "add", "@example.test"]) == 0
    assert capsys.readouterr().out == "@example.test was already suppressed; 0 subscribers are blocked\n"
    assert main(["suppress", "list", "--json"]) == 0
    shown = json_of(capsys)
    assert [(one["rule"], one["kind"], one["reason"]) for one in shown] == [
        ("@example.test", "domain", "added by hand"),
        ("p1@example.test", "address", "complained"),
    ]
    assert all(one["created_at"].startswith("20") for one in shown)
    assert main(["suppress", "list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["@example.test", "p1@example.test"]
    assert main(["suppress", "remove", "@example.test"]) == 0
    assert "2 subscribers are active again" in capsys.readouterr().out
    assert main(["suppress", "remove", "p1@example.test", "--json"]) == 0
    assert json_of(capsys) == {"rule": "p1@example.test", "kind": "address", "removed": True, "released": 1}
    assert main(["suppress", "list", "--json"]) == 0
    assert json_of(capsys) == []


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["add", "example.com"], 2, "a whole domain is written @example.com"),
        (["add", "@com"], 2, "a domain is written @example.com"),
        (["add", "a@b@c.test"], 2, "is not an email address"),
        (["remove", "nobody@x.test"], 1, "there is no rule nobody@x.test"),
        (["import", "nowhere.csv"], 2, "cannot read nowhere.csv"),
        (["import", "FILE", "--encoding", "klingon"], 2, "klingon"),
    ],
)
def test_what_cannot_be_done_is_said_without_a_traceback(
    home: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, said: str
) -> None:
    file = tmp_path / "rules.csv"
    file.write_text("a@x.test\n")
    assert main(["suppress", *(str(file) if word == "FILE" else word for word in words)]) == code
    output = capsys.readouterr()
    assert said in output.err
    assert output.out == ""


def test_a_file_is_imported_and_what_it_did_is_told(
    home: Settings, db: Db, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "blocked.csv"
    file.write_text("p1@example.test\nnobody\n@other.test\n")
    assert main(["suppress", "import", str(file), "--json"]) == 0
    output = capsys.readouterr()
    result = json.loads(output.out)
    assert list(result) == ["read", "created", "unchanged", "rejected", "blocked", "rejects_file"]
    assert (result["read"], result["created"], result["rejected"], result["blocked"]) == (3, 2, 1, 1)
    assert result["rejects_file"] in output.err
    assert rules(db) == {"@other.test": "imported from blocked.csv", "p1@example.test": "imported from blocked.csv"}
    assert main(["suppress", "import", str(file)]) == 0
    assert "3 rows read, 0 rules created, 2 unchanged, 1 rejected" in capsys.readouterr().out


def test_a_dash_reads_standard_input(
    home: Settings, db: Db, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        sys, "stdin", SimpleNamespace(buffer=io.BytesIO("邮箱;原因\nP1@example.test;投诉".encode("gb18030")))
    )
    assert main(["suppress", "import", "-", "--encoding", "GB18030"]) == 0
    assert "1 subscriber is blocked" in capsys.readouterr().out
    assert rules(db) == {"p1@example.test": "投诉"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a@x.test\n@y.test\n", {"a@x.test", "@y.test"}),
        ("\ufeffA@X.test;why\r\n\r\n@Y.test;\r\n", {"a@x.test", "@y.test"}),
        ("Email,Reason\na@x.test,spam\n@y.test,\n", {"a@x.test", "@y.test"}),
        ("id,E-Mail Address,x\n1,a@x.test,z\n2,@y.test\n", {"a@x.test", "@y.test"}),
        ("domain\nx.test\n@y.test\n", {"@x.test", "@y.test"}),
        ('"a@x.test"\n"@y.test"\n', {"a@x.test", "@y.test"}),
        ("7,a@x.test\n8,@y.test\n", {"a@x.test", "@y.test"}),
    ],
)
def test_files_are_read_with_and_without_a_header(db: Db, tmp_path: Path, text: str, expected: set[str]) -> None:
    result = load(db, tmp_path, text)
    assert (result.created, result.rejected) == (2, 0)
    assert set(rules(db)) == expected


def test_reasons_come_from_the_file_where_it_has_any(db: Db, tmp_path: Path) -> None:
    load(db, tmp_path, "email,reason\na@x.test,said so\nb@x.test,\na@x.test,later\n")
    assert rules(db) == {"a@x.test": "said so", "b@x.test": "imported"}


def test_bad_rows_go_to_a_file_with_their_line_and_the_rest_goes_in(db: Db, tmp_path: Path) -> None:
    result = load(db, tmp_path, b"email,name\na@x.test,A\nnobody,N\n,M\nx.test,D\nb@x.test,B\xfc\n@z,Z\nc@x.test,C\n")
    assert (result.read, result.created, result.rejected) == (7, 2, 5)
    assert result.rejects_file
    with Path(result.rejects_file).open(encoding="utf-8", newline="") as file:
        _, *rows = csv.reader(file)
    assert [(int(line), reason.split(":")[0]) for line, reason, _ in rows] == [
        (3, "invalid address"),
        (4, "no address and no domain"),
        (5, "invalid address"),
        (6, "\\xfc is not utf-8; is another --encoding right?"),
        (7, "invalid address"),
    ]
    assert "a whole domain is written @example.com" in rows[2][1]


@pytest.mark.parametrize("text", ["", "name,city\nAnn,Oslo\n", "email,domain\na@x.test,y.test\n", "just words\n"])
def test_a_file_that_cannot_be_used_leaves_nothing_behind(db: Db, tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="address"):
        load(db, tmp_path, text)
    assert rules(db) == {}


def test_an_interrupted_import_is_completed_by_another(db: Db, tmp_path: Path) -> None:
    add_people(db, 5000)
    text = "@y.test\n" + "".join(f"p{n}@example.test\n" for n in range(1, 5001))

    def interrupt(done: int, rows: int) -> None:
        if rows == 2000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(db, tmp_path, text, progress=interrupt)
    assert len(rules(db)) == 2000
    assert db.value("SELECT COUNT(*) FROM subscribers WHERE status = 'blocked'") == 1999
    result = load(db, tmp_path, text)
    assert (result.created, result.unchanged, result.blocked) == (3001, 2000, 3001)
    assert db.value("SELECT COUNT(*) FROM subscribers WHERE status = 'blocked'") == 5000
    assert db.value("SELECT kind FROM suppressions WHERE value = 'y.test'") == "domain"


def test_progress_is_told_by_the_chunk(db: Db, tmp_path: Path) -> None:
    text = "".join(f"u{n}@x.test\n" for n in range(4500))
    told: list[tuple[int, int]] = []
    load(db, tmp_path, text, progress=lambda done, rows: told.append((done, rows)))
    assert [rows for _, rows in told] == [2000, 4000, 4500]
    assert told[-1][0] == len(text)

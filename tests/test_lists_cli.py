"""`mailcrew lists` as people and scripts use it."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app import config
from app.cli.main import main
from app.config import ROOT, Settings
from app.db import Db

CSV = "email,name,city\nann@x.test,Ann,Oslo\nbob@x.test,Bob,Rome\n"


@pytest.fixture
def home(db: Db, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """The commands see this test's home and database, already migrated."""
    monkeypatch.setenv("MAILCREW_HOME", str(settings.home))
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    config.settings.cache_clear()
    yield settings
    config.settings.cache_clear()


@pytest.fixture
def people(tmp_path: Path) -> Path:
    path = tmp_path / "people.csv"
    path.write_text(CSV)
    return path


def json_of(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_an_import_prints_its_counts_as_json_and_nothing_else(
    home: Settings, people: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lists", "import", str(people), "--list", "news", "--json"]) == 0
    output = capsys.readouterr()
    assert json.loads(output.out) == {
        "list": "news",
        "read": 2,
        "created": 2,
        "updated": 0,
        "unchanged": 0,
        "rejected": 0,
        "rejects_file": None,
    }
    assert output.err == ""


def test_lists_are_shown_to_people_and_to_scripts(
    home: Settings, people: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lists", "show"]) == 0
    assert "no lists yet" in capsys.readouterr().err
    main(["lists", "import", str(people), "--list", "news"])
    main(["lists", "import", str(people), "--list", "客户"])
    assert "2 rows read, 2 created" in capsys.readouterr().out
    main(["lists", "unsubscribe", "news", "ANN@x.test"])
    capsys.readouterr()
    assert main(["lists", "show", "--json"]) == 0
    shown = json_of(capsys)
    assert [(each["name"], each["subscribers"]) for each in shown] == [("news", 1), ("客户", 2)]
    assert main(["lists", "show"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "ID  NAME  SUBSCRIBERS",
        f"{shown[0]['id']:>2}  news            1",
        f"{shown[1]['id']:>2}  客户            2",
    ]


def test_rejected_rows_are_told_on_stderr_and_the_exit_code_stays_0(
    home: Settings, people: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    people.write_text(CSV + "nobody,N,\n")
    assert main(["lists", "import", str(people), "--list", "news", "--json"]) == 0
    output = capsys.readouterr()
    result = json.loads(output.out)
    assert result["rejected"] == 1
    assert Path(result["rejects_file"]).parent == home.state / "rejects"
    assert result["rejects_file"] in output.err


def test_a_dash_reads_standard_input(
    home: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO("邮箱;姓名\na@x.test;李雷".encode("gb18030"))))
    assert main(["lists", "import", "-", "--list", "news", "--encoding", "GB18030", "--json"]) == 0
    assert json_of(capsys)["created"] == 1


def test_taking_someone_off(home: Settings, people: Path, db: Db, capsys: pytest.CaptureFixture[str]) -> None:
    main(["lists", "import", str(people), "--list", "news"])
    assert main(["lists", "remove", "news", "Ann@X.test"]) == 0
    assert main(["lists", "unsubscribe", "news", "bob@x.test"]) == 0
    assert main(["lists", "remove", "news", "bob@x.test"]) == 0
    assert "stays so" in capsys.readouterr().err
    assert main(["lists", "forget", "bob@x.test"]) == 0
    assert db.rows("SELECT status FROM memberships ORDER BY subscriber_id") == [("removed",), ("unsubscribed",)]
    assert db.rows("SELECT status FROM subscribers ORDER BY id") == [("active",), ("deleted",)]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["import", "nowhere.csv", "--list", "news"], 2, "cannot read nowhere.csv"),
        (["import", "/", "--list", "news"], 2, "cannot read /"),
        (["import", "FILE", "--list", " "], 2, "cannot name a list"),
        (["import", "FILE", "--list", "news", "--encoding", "klingon"], 2, "klingon"),
        (["import", "NO_EMAIL", "--list", "news"], 2, "name, city"),
        (["remove", "nolist", "ann@x.test"], 1, "no list 'nolist'"),
        (["remove", "news", "nobody@x.test"], 1, "nobody has the address"),
        (["unsubscribe", "other", "ann@x.test"], 1, "not on the list"),
        (["forget", "nobody@x.test"], 1, "nobody has the address"),
        (["forget", "nobody"], 2, "is not an email address"),
    ],
)
def test_what_cannot_be_done_is_said_without_a_traceback(
    home: Settings,
    people: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    code: int,
    said: str,
) -> None:
    main(["lists", "import", str(people), "--list", "news"])
    bare = people.with_name("bare.csv")
    bare.write_text("name,city\nAnn,Oslo\n")
    empty = people.with_name("empty.csv")
    empty.write_text("email\n")
    main(["lists", "import", str(empty), "--list", "other"])
    capsys.readouterr()
    named = {"FILE": str(people), "NO_EMAIL": str(bare)}
    assert main(["lists", *(named.get(word, word) for word in words)]) == code
    output = capsys.readouterr()
    assert said in output.err
    assert output.out == ""


@pytest.mark.parametrize("verb", ["", "import", "show", "remove", "unsubscribe", "forget"])
def test_help_has_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["lists", *filter(None, [verb]), "--help"])
    assert stop.value.code == 0
    assert f"example: bin/mailcrew lists {verb}" in capsys.readouterr().out


def test_a_terminal_gets_a_progress_bar_and_stdout_stays_clean(home: Settings, people: Path) -> None:
    people.write_text("email\n" + "".join(f"u{n}@x.test\n" for n in range(3000)))
    keyboard, terminal = pty.openpty()
    shown: list[bytes] = []

    def read() -> None:
        with suppress(OSError):  # nobody writes any more
            while piece := os.read(keyboard, 4096):
                shown.append(piece)

    reading = threading.Thread(target=read)
    reading.start()
    done = subprocess.run(
        [
            *(sys.executable, "-c", "import sys; from app.cli.main import main; sys.exit(main())"),
            *("lists", "import", str(people), "--list", "news", "--json"),
        ],
        cwd=ROOT,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
        stdout=subprocess.PIPE,
        stderr=terminal,
        check=True,
    )
    os.close(terminal)
    reading.join(60)
    os.close(keyboard)
    assert "3,000 rows" in b"".join(shown).decode()
    assert json.loads(done.stdout)["created"] == 3000


@pytest.mark.parametrize("words", [["lists", "import", "-", "--list", "news"], ["suppress", "import", "-"]])
def test_a_closed_standard_input_is_named(
    home: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setattr("sys.stdin", None)  # as Python finds it behind <&-
    assert main(words) == 2
    assert "cannot read standard input: it is closed" in capsys.readouterr().err

"""Importing people: what goes in, what is counted, what is kept, on both databases."""

from __future__ import annotations

import csv
import io
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from app.db import Db, connect
from app.errors import UsageError
from app.lists.importing import ImportResult, import_csv
from app.lists.memberships import forget, remove, summaries, unsubscribe


@pytest.fixture
def rejects(tmp_path: Path) -> Path:
    return tmp_path / "rejects"


def load(db: Db, rejects: Path, text: str | bytes, name: str = "news", **more: Any) -> ImportResult:
    data = text if isinstance(text, bytes) else text.encode()
    more = {"file_name": "people.csv", **more}
    return import_csv(db, io.BytesIO(data), list_to=name, rejects_in=rejects, **more)


def counts(result: ImportResult) -> tuple[int, int, int, int]:
    assert result.read == result.created + result.updated + result.unchanged + result.rejected
    return result.created, result.updated, result.unchanged, result.rejected


def people(db: Db) -> list[tuple[str, str, Any, str]]:
    found = db.rows("SELECT email, name, attributes, status FROM subscribers ORDER BY id")
    return [(email, name, json.loads(attributes), status) for email, name, attributes, status in found]


def members(db: Db) -> list[tuple[str, str]]:
    return db.rows(
        "SELECT s.email, m.status FROM memberships m JOIN subscribers s ON s.id = m.subscriber_id ORDER BY s.id"
    )


def test_an_import_makes_the_list_its_people_and_their_attributes(db: Db, rejects: Path) -> None:
    text = "\ufeffEmail,Name,City\r\nAnn@x.test,Ann,Oslo\r\nbob@x.test,Bob,\r\n"
    result = load(db, rejects, text)
    assert counts(result) == (2, 0, 0, 0)
    assert (result.list, result.rejects_file) == ("news", None)
    assert people(db) == [("Ann@x.test", "Ann", {"city": "Oslo"}, "active"), ("bob@x.test", "Bob", {}, "active")]
    assert members(db) == [("Ann@x.test", "active"), ("bob@x.test", "active")]
    assert not rejects.exists()


def test_importing_again_changes_only_what_is_new(db: Db, rejects: Path) -> None:
    load(db, rejects, "email,name,city,plan\na@x.test,Ann,Oslo,free\nb@x.test,Bob,Rome,free\n")
    before = db.rows("SELECT id, email_key FROM subscribers ORDER BY id")
    result = load(db, rejects, "email,name,plan,age\na@x.test,,gold,7\nb@x.test,Bob,,\nc@x.test,,,\n")
    assert counts(result) == (1, 1, 1, 0)
    assert people(db)[:2] == [
        ("a@x.test", "Ann", {"city": "Oslo", "plan": "gold", "age": "7"}, "active"),
        ("b@x.test", "Bob", {"city": "Rome", "plan": "free"}, "active"),
    ]
    assert db.rows("SELECT id, email_key FROM subscribers ORDER BY id")[:2] == before


def test_mixed_case_addresses_are_one_person_and_the_later_row_wins(db: Db, rejects: Path) -> None:
    rows = "email,name\nAnn@X.test,Ann\nANN@x.test,Anna\nann@x.TEST,Anna\nДима@x.test,\nДИМА@x.test,\n"
    assert counts(load(db, rejects, rows)) == (2, 1, 2, 0)
    assert [row[:2] for row in people(db)] == [("Ann@x.test", "Anna"), ("Дима@x.test", "")]
    assert counts(load(db, rejects, "email,name\naNN@x.test,Anna\n")) == (0, 0, 1, 0)


def test_a_person_on_a_second_list_is_created_there_and_stays_one(db: Db, rejects: Path) -> None:
    load(db, rejects, "email\na@x.test\n")
    assert counts(load(db, rejects, "email\na@x.test\n", name="offers")) == (1, 0, 0, 0)
    assert len(people(db)) == 1
    assert [(x.name, x.subscribers) for x in summaries(db)] == [("news", 1), ("offers", 1)]


def test_who_unsubscribed_is_never_subscribed_again(db: Db, rejects: Path) -> None:
    load(db, rejects, "email,name\na@x.test,Ann\n")
    unsubscribe(db, "news", "A@x.test")
    assert counts(load(db, rejects, "email,status\na@x.test,active\n")) == (0, 0, 1, 0)
    assert counts(load(db, rejects, "email,name\na@x.test,Anna\n")) == (0, 1, 0, 0)
    assert remove(db, "news", "a@x.test") is False
    forget(db, "a@x.test")
    load(db, rejects, "email\na@x.test\n")
    assert members(db) == [("a@x.test", "unsubscribed")]


def test_a_status_in_the_file_unsubscribes_and_blocks(db: Db, rejects: Path) -> None:
    load(db, rejects, "email\na@x.test\nb@x.test\n")
    text = "email,status\na@x.test,unsubscribed\nb@x.test,blocklisted\nc@x.test,unsubscribed\nd@x.test,active\n"
    assert counts(load(db, rejects, text)) == (2, 2, 0, 0)
    assert [row[3] for row in people(db)] == ["active", "blocked", "active", "active"]
    assert [row[1] for row in members(db)] == ["unsubscribed", "unsubscribed", "unsubscribed", "active"]
    assert summaries(db)[0].subscribers == 1
    assert counts(load(db, rejects, text)) == (0, 0, 4, 0)


def test_removed_and_forgotten_people_come_back_with_their_id(db: Db, rejects: Path) -> None:
    load(db, rejects, "email,name,city\na@x.test,Ann,Oslo\nb@x.test,Bob,Rome\n")
    before = db.rows("SELECT id, email FROM subscribers ORDER BY id")
    assert remove(db, "news", "a@x.test") is True
    forget(db, "B@X.test")
    assert members(db) == [("a@x.test", "removed"), ("b@x.test", "removed")]
    assert people(db)[1] == ("b@x.test", "", {}, "deleted")
    assert counts(load(db, rejects, "email,name\na@x.test,Ann\nb@x.test,\n")) == (2, 0, 0, 0)
    assert members(db) == [("a@x.test", "active"), ("b@x.test", "active")]
    assert people(db)[1] == ("b@x.test", "", {}, "active")
    assert db.rows("SELECT id, email FROM subscribers ORDER BY id") == before


@pytest.mark.parametrize("status", ["blocked", "bounced"])
def test_blocked_and_bounced_people_stay_so(db: Db, rejects: Path, status: str) -> None:
    load(db, rejects, "email\na@x.test\n")
    db.run("UPDATE subscribers SET status = ?", status)
    load(db, rejects, "email,name,status\na@x.test,Ann,active\n")
    forget(db, "a@x.test")
    load(db, rejects, "email,name\na@x.test,Ann\n")
    assert people(db) == [("a@x.test", "Ann", {}, status)]


def test_bad_rows_go_to_a_file_with_line_reason_and_text(db: Db, rejects: Path) -> None:
    data = (
        b'email,name,note\na@x.test,Ann,"two\nlines"\nnobody,N,\n,M,"x, y"\nb@x.test,M\xfcller,\n'
        b'c@x.test,C\nd@x.test,"D,\ne@x.test,Eve,"ok"\n'
    )
    result = load(db, rejects, data)
    assert counts(result) == (2, 0, 0, 5)
    assert [row[0] for row in people(db)] == ["a@x.test", "e@x.test"]
    assert result.rejects_file is not None
    path = Path(result.rejects_file)
    assert path.parent == rejects
    assert path.name.startswith("people-")
    assert path.stat().st_mode & 0o777 == 0o600
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["line", "reason", "row"]
    assert [(int(line), row) for line, _, row in rows] == [
        (4, "nobody,N,"),
        (5, ',M,"x, y"'),
        (6, "b@x.test,M\\xfcller,"),
        (7, "c@x.test,C"),
        (8, 'd@x.test,"D,'),
    ]
    assert [reason.split(":")[0] for _, reason, _ in rows] == [
        *("invalid address", "no address", "\\xfc is not utf-8; is another --encoding right?"),
        *("2 columns instead of 3", "a quote is opened and never closed"),
    ]


def test_two_imports_in_one_second_have_a_rejects_file_each(db: Db, rejects: Path) -> None:
    files = {load(db, rejects, "email\nnobody\n").rejects_file for _ in range(3)}
    assert len(files) == 3


@pytest.mark.parametrize(("encoding", "name"), [("GB18030", "李雷𠮷"), ("windows-1252", "Müller"), ("utf-16", "é")])
def test_other_encodings_are_read_when_named(db: Db, rejects: Path, encoding: str, name: str) -> None:
    load(db, rejects, f"email,name\na@x.test,{name}\n".encode(encoding), encoding=encoding)
    assert people(db)[0][1] == name


@pytest.mark.parametrize("text", ["name,city\nAnn,Oslo\n", "", "email,email\n"])
def test_a_file_that_cannot_be_used_leaves_nothing_behind(db: Db, rejects: Path, text: str) -> None:
    with pytest.raises(UsageError):
        load(db, rejects, text)
    assert summaries(db) == []


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 201])
def test_a_list_needs_a_name(db: Db, rejects: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot name a list"):
        load(db, rejects, "email\na@x.test\n", name=name)


def test_progress_is_told_by_the_chunk(db: Db, rejects: Path) -> None:
    text = "email\n" + "".join(f"u{n}@x.test\n" for n in range(4500))
    told: list[tuple[int, int]] = []
    load(db, rejects, text, progress=lambda done, rows: told.append((done, rows)))
    assert [rows for _, rows in told] == [2000, 4000, 4500]
    assert told[-1][0] == len(text)


def test_an_interrupted_import_leaves_whole_chunks_and_is_completed_by_another(db: Db, rejects: Path) -> None:
    text = "email,name\n" + "".join(f"u{n}@x.test,U{n}\n" for n in range(6000))

    def interrupt(done: int, rows: int) -> None:
        if rows == 4000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(db, rejects, text, progress=interrupt)
    assert len(members(db)) == len(people(db)) == 4000
    assert counts(load(db, rejects, text)) == (2000, 0, 4000, 0)
    assert len(members(db)) == len(people(db)) == 6000


def test_imports_of_the_same_people_at_once_lose_nothing(database_url: str, db: Db, rejects: Path) -> None:
    addresses = [f"u{n}@x.test" for n in range(5000)]
    load(db, rejects, "email\n" + "\n".join(addresses[::7]))
    orders = [addresses, addresses[::-1], addresses[2500:] + addresses[:2500]]
    results: list[ImportResult] = []

    def work(number: int) -> None:
        mine = connect(database_url)
        text = f"email,from{number}\n" + "".join(f"{a},yes\n" for a in orders[number])
        results.append(load(mine, rejects, text))
        mine.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(orders))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [result.read for result in results] == [5000] * 3
    assert sum(result.created for result in results) == 5000 - len(addresses[::7])
    everything = {f"from{number}": "yes" for number in range(len(orders))}
    assert all(row[2] == everything for row in people(db))
    assert len(people(db)) == len(members(db)) == 5000

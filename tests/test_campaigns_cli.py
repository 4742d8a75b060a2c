"""`mailcrew campaigns` as people and scripts use it: one document on stdout, reasons on stderr, no traceback."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from app import config
from app.cli.main import main
from app.config import ROOT, Settings
from app.db import Db
from app.mail.servers import add_server
from app.models.tables import Campaign, Recipient
from tests.sending import NOW, add_list, add_people, expand, start


@pytest.fixture
def home(db: Db, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """The commands see this test's home; a list of three people and a server are there."""
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    config.settings.cache_clear()
    add_list(db, "news", add_people(db, 3))
    add_server(name="sink", host="127.0.0.1", port=25, tls="none", now=NOW)
    yield settings
    config.settings.cache_clear()


def environment(settings: Settings) -> dict[str, str]:
    return {
        "MAILCREW_HOME": str(settings.home),
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
    }


CREATE = ("create", "Spring", "--subject", "Hello {{ name }}", "--from", "Shop <a@shop.test>", "--list", "news")


@pytest.fixture
def body(tmp_path: Path) -> str:
    path = tmp_path / "body.txt"
    path.write_text("Dear {{ name }}", encoding="utf-8")
    return str(path)


def campaigns(*arguments: str) -> int:
    """`bin/mailcrew campaigns …`; its exit code, also when the parser ends it."""
    try:
        return main(["campaigns", *arguments])
    except SystemExit as end:
        return int(end.code or 0)


def created(body: str, capsys: pytest.CaptureFixture[str]) -> int:
    assert campaigns(*CREATE, "--text", body, "--json") == 0
    document: dict[str, int] = json.loads(capsys.readouterr().out)
    assert list(document) == ["id"]
    return document["id"]


def fails(capsys: pytest.CaptureFixture[str], code: int, said: str, *arguments: str) -> None:
    assert campaigns(*arguments) == code
    output = capsys.readouterr()
    assert output.out == ""
    assert said in output.err
    assert "Traceback" not in output.err


def test_a_draft_is_created_and_the_next_step_named(
    home: Settings, body: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert campaigns(*CREATE, "--text", body) == 0
    assert "campaigns schedule 1" in capsys.readouterr().out
    assert created(body, capsys) == 2


@pytest.mark.parametrize(
    ("code", "said", "more"),
    [
        (2, "cannot be read: No such file", ["--text", "/nowhere.txt"]),
        (2, "cannot be read: Is a directory", ["--text", "/tmp"]),
        (2, "is not UTF-8 (line 2)", ["--html", "LATIN"]),
        (1, "html, line 2", ["--html", "BROKEN"]),
        (1, "no body", []),
        (1, "'sonst'", ["--text", "BODY", "--list", "sonst"]),
        (1, "'sonst'", ["--text", "BODY", "--server", "sonst"]),
        (2, "not an email address", ["--text", "BODY", "--from", "a@b@c"]),
        (2, "--from has 514 characters: 500 at most", ["--text", "BODY", "--from", f"{'A' * 500} <a@shop.test>"]),
        (2, "--subject", ["--text", "BODY", "--subject", ""]),
        (2, "invalid int", ["--text", "BODY", "--weight", "x"]),
        (2, "NAME", ["--text", "BODY", "--text", "BODY", "--list", "news", "--weight", "1", "--subject", "s", "extra"]),
    ],
)
def test_a_mistake_is_named_without_a_traceback(
    home: Settings,
    tmp_path: Path,
    body: str,
    capsys: pytest.CaptureFixture[str],
    code: int,
    said: str,
    more: list[str],
) -> None:
    (tmp_path / "LATIN").write_bytes(b"a\nGr\xfc\xdfe")
    (tmp_path / "BROKEN").write_text("a\n{{ name | nofilter }}")
    files = {"BODY": body, "LATIN": str(tmp_path / "LATIN"), "BROKEN": str(tmp_path / "BROKEN")}
    if "extra" in more:
        said = "unrecognized"
    fails(capsys, code, said, *CREATE, *[files.get(one, one) for one in more])
    assert Campaign.select().count() == 0


@pytest.mark.parametrize("name", [" ", "a" * 201, "two\nlines"])
def test_a_name_that_cannot_be_one_is_refused(
    home: Settings, body: str, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    fails(capsys, 2, "NAME=", "create", name, *CREATE[2:], "--text", body)
    assert Campaign.select().count() == 0


@pytest.mark.parametrize("option", ["NAME", "--subject", "--list", "--from", "--server"])
def test_bytes_that_are_no_text_are_refused(
    home: Settings, body: str, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    # What Python makes of an argument that is not UTF-8 (PEP 383).
    arguments = ["create", "half \udcff"] if option == "NAME" else [*CREATE[:2]]
    rest = [*CREATE[2:], "--text", body] + ([option, "half \udcff"] if option != "NAME" else [])
    assert campaigns(*arguments, *rest) in (1, 2)
    assert "Traceback" not in capsys.readouterr().err
    assert Campaign.select().count() == 0


@pytest.mark.parametrize(
    ("at", "said"),
    [
        ("2031-01-01T09:00:00", "has no time zone"),
        ("2031-01-01", "has no time zone"),
        ("tomorrow", "is no time"),
        ("2020-01-01T09:00:00Z", "is in the past"),
        ("0001-01-01T00:00:00+14:00", "past"),
        ("9999-12-31T23:59:59-14:00", "--at"),
        ("", "--at"),
    ],
)
def test_a_time_that_makes_no_sense_is_refused(
    home: Settings, body: str, capsys: pytest.CaptureFixture[str], at: str, said: str
) -> None:
    campaign_id = created(body, capsys)
    fails(capsys, 2, said, "schedule", str(campaign_id), "--at", at)
    assert Campaign.get().status == "draft"


def test_a_time_with_a_zone_is_kept_as_that_instant(
    home: Settings, body: str, capsys: pytest.CaptureFixture[str]
) -> None:
    campaign_id = created(body, capsys)
    assert campaigns("schedule", str(campaign_id), "--at", "2031-01-01T09:00:00+08:00") == 0
    expected = datetime(2031, 1, 1, 1, tzinfo=UTC)
    assert Campaign.get().scheduled_at == int(expected.timestamp() * 1000)
    assert expected.isoformat() in capsys.readouterr().out
    later = (expected + timedelta(days=1)).isoformat()
    assert campaigns("schedule", str(campaign_id), "--at", later) == 0
    assert Campaign.get().scheduled_at == int((expected.timestamp() + 86_400) * 1000)


@pytest.mark.parametrize("unknown", ["77", "0", "99999999999999999999", "-99999999999999999999"])
@pytest.mark.parametrize("verb", ["schedule", "recipients", "pause", "resume", "cancel"])
def test_an_unknown_id_is_said_to_be_unknown(
    home: Settings, capsys: pytest.CaptureFixture[str], verb: str, unknown: str
) -> None:
    fails(capsys, 1, f"no campaign {unknown}", verb, unknown)


def test_a_campaign_under_way_cannot_be_scheduled(
    home: Settings, body: str, capsys: pytest.CaptureFixture[str]
) -> None:
    campaign_id = created(body, capsys)
    Campaign.update(status="sending").execute()
    fails(capsys, 1, "is sending", "schedule", str(campaign_id))


def test_the_list_is_one_json_document(home: Settings, body: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert campaigns("list", "--json") == 0
    assert json.loads(capsys.readouterr().out) == []
    campaign_id = created(body, capsys)
    assert campaigns("list", "--json") == 0
    (one,) = json.loads(capsys.readouterr().out)
    assert (one["id"], one["name"], one["status"], one["recipients"]) == (campaign_id, "Spring", "draft", 0)
    assert campaigns("list") == 0
    assert "Spring" in capsys.readouterr().out


def recipients(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    assert campaigns("recipients", *arguments, "--json") == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_recipients_are_one_json_object_a_line(
    home: Settings, db: Db, body: str, capsys: pytest.CaptureFixture[str]
) -> None:
    campaign_id = created(body, capsys)
    start(db, campaign_id)
    expand(db, home, campaign_id)
    Recipient.update(state="sent", attempts=1, server_id=1, reason="250 ok", tried_at=NOW).where(
        Recipient.subscriber_id == 1
    ).execute()
    db.run("UPDATE batches SET sent = 1, pending = 2")
    every = recipients(capsys, str(campaign_id))
    assert [one["email"] for one in every] == [f"p{n}@example.test" for n in (1, 2, 3)]
    assert all(
        list(one) == ["email", "state", "reason", "attempts", "server", "message_id", "sent_at"] for one in every
    )
    (sent,) = recipients(capsys, str(campaign_id), "--state", "sent")
    assert (sent["state"], sent["reason"], sent["attempts"], sent["server"]) == ("sent", "250 ok", 1, "sink")
    assert datetime.fromisoformat(sent["sent_at"]) == datetime.fromtimestamp(NOW / 1000, UTC)
    assert len({one["message_id"] for one in every}) == 3
    assert len(recipients(capsys, str(campaign_id), "--state", "pending")) == 2
    (found,) = recipients(capsys, str(campaign_id), "--email", "P2@Example.TEST")
    assert (found["email"], found["sent_at"]) == ("p2@example.test", None)
    db.run("UPDATE batches SET state = 'leased'")
    assert {one["state"] for one in recipients(capsys, str(campaign_id))} == {"sent", "sending"}
    assert len(recipients(capsys, str(campaign_id), "--state", "sending")) == 2
    assert recipients(capsys, str(campaign_id), "--state", "pending") == []


def test_anybody_is_answered_for(home: Settings, db: Db, body: str, capsys: pytest.CaptureFixture[str]) -> None:
    campaign_id = created(body, capsys)
    stranger = (str(campaign_id), "--email", "X@Example.test")
    (found,) = recipients(capsys, *stranger)
    assert found == {
        "email": "X@example.test", "state": None, "reason": None, "attempts": 0, "server": None, "message_id": None,
        "sent_at": None, "answer": "X@example.test is nobody's address here",
    }  # fmt: skip
    assert campaigns("recipients", *stranger) == 0
    assert capsys.readouterr().out == "X@example.test is nobody's address here\n"
    start(db, campaign_id)
    expand(db, home, campaign_id)
    (found,) = recipients(capsys, str(campaign_id), "--email", "p2@example.test")
    assert (found["state"], found["answer"].split(":")[0]) == ("pending", "p2@example.test waits")
    fails(
        capsys,
        1,
        "p2@example.test waits",
        "recipients",
        str(campaign_id),
        "--email",
        "p2@example.test",
        "--state",
        "sent",
    )


def test_what_cannot_be_asked_is_said(home: Settings, body: str, capsys: pytest.CaptureFixture[str]) -> None:
    campaign_id = str(created(body, capsys))
    fails(capsys, 2, "not an email address", "recipients", campaign_id, "--email", "x")
    fails(capsys, 2, "not an email address", "recipients", campaign_id, "--email", "nobody")
    fails(capsys, 2, "invalid choice", "recipients", campaign_id, "--state", "happy")


@pytest.mark.parametrize("reader", ["head -n 1", "true"])
def test_a_reader_that_leaves_early_is_no_error(
    home: Settings, db: Db, body: str, capsys: pytest.CaptureFixture[str], reader: str
) -> None:
    add_list(db, "many", add_people(db, 3000, "m"))
    Campaign.delete().execute()
    assert campaigns(*CREATE, "--list", "many", "--text", body, "--json") == 0
    campaign_id = json.loads(capsys.readouterr().out)["id"]
    start(db, campaign_id)
    expand(db, home, campaign_id)
    done = subprocess.run(
        ["bash", "-c", f"{ROOT}/bin/mailcrew campaigns recipients {campaign_id} | {reader}; echo ${{PIPESTATUS[0]}}"],
        capture_output=True, text=True, timeout=100, env={**os.environ, **environment(home), "PYTHONUNBUFFERED": ""},
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "0"
    assert done.stderr == ""


@pytest.mark.parametrize(
    "command", ["mailcrew campaigns list", "mailcrew campaigns list --json", "mailcrew --help", "mailcrew check"]
)
def test_a_reader_that_has_gone_before_the_first_line_is_no_error(home: Settings, command: str) -> None:
    done = subprocess.run(
        # Short output is still in Python's hands when the command has done its work.
        ["bash", "-c", f"{ROOT}/bin/{command} | true; echo ${{PIPESTATUS[0]}}"],
        capture_output=True, text=True, timeout=100, env={**os.environ, **environment(home), "PYTHONUNBUFFERED": ""},
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_a_full_disk_under_the_output_is_an_error_in_one_line(home: Settings) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{ROOT}/bin/mailcrew campaigns list --json > /dev/full"],
        capture_output=True, text=True, timeout=100, env={**os.environ, **environment(home), "PYTHONUNBUFFERED": ""},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "mailcrew: No space left on device\n")


def broken_homes(tmp_path: Path) -> dict[str, dict[str, str]]:
    return {
        "no tables": {"DATABASE_URL": f"sqlite:///{tmp_path / 'empty.db'}"},
        "not a database": {"DATABASE_URL": f"sqlite:///{tmp_path / 'garbage.db'}"},
        "a directory that is not there": {"DATABASE_URL": "sqlite:////nowhere/at/all.db"},
        "nobody answers": {"DATABASE_URL": "mysql://u:secret@127.0.0.1:1/x"},
        "no port": {"DATABASE_URL": "mysql://u:secret@h:port/x"},
        "port too large": {"DATABASE_URL": "mysql://u:secret@h:99999/x"},
        "no name": {"DATABASE_URL": "mysql://u:secret@h/"},
        "brackets": {"DATABASE_URL": "mysql://[::/x"},
        "postgres": {"DATABASE_URL": "postgres://u:secret@h/x"},
        "home is a file": {"MAILCREW_HOME": str(tmp_path / "garbage.db")},
        "a number that is none": {"LEASE_SECONDS": "soon"},
    }


@pytest.mark.parametrize("what", list(broken_homes(Path("/tmp"))))
def test_a_broken_setting_is_named_without_a_traceback_or_a_password(tmp_path: Path, what: str) -> None:
    (tmp_path / "garbage.db").write_bytes(b"this is no database" * 100)
    done = subprocess.run(
        [f"{ROOT}/bin/mailcrew", "campaigns", "list", "--json"], capture_output=True, text=True, timeout=100,
        env={**os.environ, "MAILCREW_HOME": str(tmp_path / "home"), **broken_homes(tmp_path)[what]},
    )  # fmt: skip
    assert done.returncode in (1, 2)
    assert done.stdout == ""
    assert done.stderr.startswith("mailcrew: ")
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr

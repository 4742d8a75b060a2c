"""`bin/supervisor-manager logs`: several processes as one, in the order of time, through rotations."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.cli.logs import Files
from app.config import ROOT
from tests.deployed import kill_all
from tests.home_stack import HomeStack, home_stack
from tests.supervised import Stack, queue
from tests.working import eventually

# Numbered JSON lines, enough for four rotations: no file is ever removed, however late the follower is.
COUNTER = """
import json, sys, time
from datetime import UTC, datetime
name = sys.argv[sys.argv.index("--name") + 1]
for number in range(2000):
    when = datetime.now(UTC).isoformat(timespec="milliseconds")
    print(json.dumps({"time": when, "level": "info", "event": "count", "number": number}), flush=True)
    if number % 20 == 0:
        time.sleep(0.05)
time.sleep(100000)
"""


def line(second: int, event: str, **fields: object) -> str:
    return json.dumps({"time": f"2026-11-22T17:00:{second:02d}.000+00:00", "level": "info", "event": event, **fields})


def write(directory: Path, name: str, *lines: str) -> Path:
    path = directory / name
    path.write_text("".join(f"{text}\n" for text in lines))
    return path


@pytest.fixture
def stack(short_directory: Path) -> Iterator[HomeStack]:
    with home_stack(short_directory, queue("send")) as made:
        yield made


def test_workers_are_merged_by_time_and_a_traceback_stays_behind_its_line(stack: HomeStack) -> None:
    logs = stack.settings.logs
    write(logs, "send_00.log", line(1, "one"), line(4, "four"), "Traceback (most recent call last):", "  boom")
    write(logs, "send_01.log", line(2, "two"), line(5, "five"))
    write(logs, "send-burst-1_00.log", line(3, "three"))
    write(logs, "sender_00.log", line(3, "of another group"))

    said = stack.run("supervisor-manager", "logs", "send", "--json")

    found = [json.loads(one) for one in said.splitlines()]
    assert [one.get("event", one.get("text")) for one in found] == [
        "one", "two", "three", "four", "Traceback (most recent call last):", "  boom", "five",
    ]  # fmt: skip
    assert [one["process"] for one in found][:3] == ["send_00", "send_01", "send-burst-1_00"]
    last = stack.run("supervisor-manager", "logs", "send", "--json", "-n", "2")
    assert [json.loads(one).get("event", "-") for one in last.splitlines()] == ["-", "five"]


def test_people_get_text_with_the_process_before_it(stack: HomeStack) -> None:
    write(
        stack.settings.logs, "send_00.err", json.dumps({"level": "warning", **json.loads(line(1, "slow", server="a"))})
    )
    write(stack.settings.logs, "send_01.err", "plain words [not markup]")

    said = stack.run("supervisor-manager", "logs", "send", "--errors").splitlines()

    assert "send_00 2026-11-22 17:00:01.000Z slow  server=a" in said
    assert "send_01 plain words [not markup]" in said


def test_rotated_files_are_read_when_the_present_one_is_short(tmp_path: Path) -> None:
    write(tmp_path, "send_00.log.2", line(1, "1"), line(2, "2"))
    write(tmp_path, "send_00.log.1", line(3, "3"), line(4, "4"))
    write(tmp_path, "send_00.log", line(5, "5"))
    files = Files(tmp_path, "send", "log")
    assert [one.fields["event"] for one in files.last(4) if one.fields] == ["2", "3", "4", "5"]


def test_lines_without_any_instant_are_as_old_as_their_file(tmp_path: Path) -> None:
    write(tmp_path, "send_00.log", line(1, "of 2026"))
    plain = write(tmp_path, "send_01.log", "no instant at all")
    os.utime(plain, (4e9, 4e9))
    files = Files(tmp_path, "send", "log")
    assert [one.text[:2] for one in files.last(2)] == ['{"', "no"]


def test_half_a_line_waits_for_its_end(tmp_path: Path) -> None:
    path = write(tmp_path, "send_00.log", line(1, "whole"))
    with path.open("a") as file:
        file.write('{"time": "2026-11-22T17:00:02')
        file.flush()
        files = Files(tmp_path, "send", "log")
        assert [one.fields["event"] for one in files.last(9) if one.fields] == ["whole"]
        assert files.added() == []
        file.write('+00:00", "event": "late"}\n')
        file.flush()
        assert [one.fields["event"] for one in files.added() if one.fields] == ["late"]


def test_two_rotations_between_two_looks_lose_nothing(tmp_path: Path) -> None:
    path = write(tmp_path, "send_00.log", line(1, "1"))
    files = Files(tmp_path, "send", "log")
    files.last(1)
    for second in (2, 3):
        with path.open("a") as file:
            file.write(line(second, str(second)) + "\n")
        if path.with_name("send_00.log.1").exists():
            path.with_name("send_00.log.1").rename(path.with_name("send_00.log.2"))
        path.rename(path.with_name("send_00.log.1"))
        write(tmp_path, "send_00.log")
    with path.open("a") as file:
        file.write(line(4, "4") + "\n")
    assert [one.fields["event"] for one in files.added() if one.fields] == ["2", "3", "4"]
    assert files.added() == []


def test_a_group_without_files_and_a_bad_number_are_refused(stack: HomeStack) -> None:
    assert "has no .log file" in stack.run("supervisor-manager", "logs", "nobody", code=1)
    assert "--lines=-1" in stack.run("supervisor-manager", "logs", "send", "-n", "-1", code=2)


def test_a_follower_sees_every_line_once_while_supervisord_rotates(short_directory: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    stack = Stack(root, short_directory / "follow", queue("send", 2), startsecs=0)
    template = root / "supervisor" / "program.conf.template"
    template.write_text(template.read_text().replace("maxbytes=100MB", "maxbytes=40KB"))
    (root / "bin" / "worker").write_text(COUNTER)
    seen = tmp_path / "seen"
    logs = stack.home / "logs"
    follower = None
    try:
        # Files that are there already, so that the follower can begin before the first line.
        logs.mkdir(parents=True)
        for name in ("send_00.log", "send_01.log"):
            (logs / name).touch()
        with seen.open("w") as out:
            follower = subprocess.Popen(
                [str(ROOT / "bin/supervisor-manager"), "logs", "send", "-f", "--json", "-n", "9999"],
                env=stack.environ,
                stdout=out,
            )
        stack.run("start")

        def complete() -> bool:
            return len(seen.read_text().splitlines()) >= 4000

        eventually(complete, "every line of both workers", seconds=90)
        assert (logs / "send_00.log.2").exists(), "it rotated more than once"
        follower.send_signal(signal.SIGINT)
        assert follower.wait(30) == 0
    finally:
        if follower and follower.poll() is None:
            follower.kill()
        kill_all(stack.found())
    found = [json.loads(one) for one in seen.read_text().splitlines()]
    for name in ("send_00", "send_01"):
        assert [one["number"] for one in found if one["process"] == name] == list(range(2000))

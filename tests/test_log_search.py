"""Logs of many processes as one: pages from behind and what is new, across rotations, with bounded reading."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.errors import UsageError
from app.watch.logs.cursor import Cursor, id_of, read_cursor
from app.watch.logs.entries import locate
from app.watch.logs.files import Meter, Text, group_pattern, streams
from app.watch.logs.lines import BLOCK
from app.watch.logs.search import Page, news, page, present
from app.watch.logs.wanted import Entry, Wanted

BEGIN = 1_795_000_000.0
ALL = Wanted()


def at(second: float) -> str:
    return datetime.fromtimestamp(BEGIN + second, UTC).isoformat(timespec="milliseconds")


def line(second: float, event: str, level: str = "info", **fields: object) -> str:
    said = {"time": at(second), "level": level, "event": event, "logger": "mailcrew", "pid": 7, **fields}
    return json.dumps(said, ensure_ascii=False)


class Process:
    """Writes a log as supervisord keeps it."""

    def __init__(self, directory: Path, name: str = "send_00", kind: str = "log") -> None:
        self.path = directory / f"{name}.{kind}"
        self.path.touch()

    def write(self, *lines: str, end: str = "\n") -> None:
        with self.path.open("a") as file:
            file.write("".join(f"{text}{end}" for text in lines))

    def rotate(self, backups: int = 5) -> None:
        for number in range(backups - 1, 0, -1):
            older = self.path.with_name(f"{self.path.name}.{number}")
            if older.exists():
                older.rename(self.path.with_name(f"{self.path.name}.{number + 1}"))
        self.path.rename(self.path.with_name(f"{self.path.name}.1"))
        self.path.touch()


def events(found: list[Entry]) -> list[str]:
    return [entry.event for entry in found]


def every_page(directory: Path, wanted: Wanted, limit: int, **more: object) -> list[list[str]]:
    """The events of one page after another, each cursor handed over as text."""
    found: Page = page(streams(directory), wanted, limit, **more)  # type: ignore[arg-type]
    pages = [events(found.entries)]
    while found.older is not None:
        assert len(pages) < 1000
        cursor = read_cursor(str(found.older), "before")
        found = page(streams(directory), wanted, limit, **{**more, "cursor": cursor})  # type: ignore[arg-type]
        pages.append(events(found.entries))
    return pages


def followed(directory: Path, cursor: Cursor, limit: int = 1000) -> tuple[list[str], Cursor]:
    """What is new, taken a bit at a time."""
    found: list[str] = []
    more = True
    while more:
        new = news(streams(directory), ALL, limit, cursor, now=BEGIN)
        found, cursor, more = found + events(new.entries), read_cursor(str(new.cursor), "after"), new.more
    return found, cursor


def test_pages_of_several_processes_are_one_list_the_newest_first(tmp_path: Path) -> None:
    one, two, errors = Process(tmp_path), Process(tmp_path, "send_01"), Process(tmp_path, "send_00", "err")
    one.write(line(1, "a"), line(4, "d"), line(7, "g"))
    two.write(line(2, "b"), line(5, "e"))
    errors.write(line(3, "c", "warning"), line(6, "f", "error"))
    assert every_page(tmp_path, ALL, 3) == [["g", "f", "e"], ["d", "c", "b"], ["a"]]
    assert every_page(tmp_path, Wanted(level="warning"), 9) == [["f", "c"]]


def test_a_page_begins_where_the_last_ended_though_files_were_rotated_and_grew_meanwhile(tmp_path: Path) -> None:
    writer = Process(tmp_path)
    writer.write(*(line(n, str(n)) for n in range(10)))
    first = page(streams(tmp_path), ALL, 4)
    writer.rotate()
    writer.write(line(10, "10"))
    writer.rotate()
    writer.write(line(11, "11"))
    second = page(streams(tmp_path), ALL, 4, cursor=first.older)
    assert (events(first.entries), events(second.entries)) == (["9", "8", "7", "6"], ["5", "4", "3", "2"])


def test_a_file_that_was_rotated_away_leaves_nothing_older(tmp_path: Path) -> None:
    writer = Process(tmp_path)
    writer.write(*(line(n, str(n)) for n in range(10)))
    first = page(streams(tmp_path), ALL, 4)
    writer.path.unlink()
    Process(tmp_path).write(line(100, "new"))
    assert page(streams(tmp_path), ALL, 4, cursor=first.older).entries == []


def test_what_is_new_is_told_once_across_rotations_and_a_new_process(tmp_path: Path) -> None:
    writer = Process(tmp_path)
    writer.write(line(0, "old"))
    cursor = present(streams(tmp_path), BEGIN)
    assert followed(tmp_path, cursor)[0] == []
    writer.write(line(1, "1"))
    writer.rotate()
    writer.write(line(2, "2"))
    writer.rotate()
    Process(tmp_path, "mail_00").write(line(1.5, "of another"))
    found, cursor = followed(tmp_path, cursor)
    assert found == ["1", "of another", "2"]
    writer.write(line(3, "3"))
    assert followed(tmp_path, cursor)[0] == ["3"]


def test_half_a_line_is_told_when_it_is_whole(tmp_path: Path) -> None:
    writer = Process(tmp_path)
    writer.write(line(0, "whole"))
    text = line(1, "late")
    writer.write(text[:30], end="")
    cursor = present(streams(tmp_path), BEGIN)
    assert every_page(tmp_path, ALL, 9) == [["whole"]]
    assert followed(tmp_path, cursor)[0] == []
    writer.write(text[30:])
    assert followed(tmp_path, cursor)[0] == ["late"]


def test_a_line_that_a_rotation_cut_in_two_is_one(tmp_path: Path) -> None:
    writer = Process(tmp_path)
    cursor = present(streams(tmp_path), BEGIN)
    text = line(1, "cut")
    writer.write(line(0, "before"))
    writer.write(text[:30], end="")
    writer.rotate()
    writer.write(text[30:], line(2, "behind"))
    assert every_page(tmp_path, ALL, 9) == [["behind", "cut", "before"]]
    assert followed(tmp_path, cursor)[0] == ["before", "cut", "behind"]


def test_an_emptied_file_is_read_from_its_beginning(tmp_path: Path) -> None:
    writer = Process(tmp_path)
    writer.write(line(1, "one"), line(2, "two"))
    cursor = present(streams(tmp_path), BEGIN + 2)
    os.truncate(writer.path, 0)
    writer.write(line(3, "three"))
    assert followed(tmp_path, cursor)[0] == ["three"]


def test_lines_without_an_instant_stand_behind_the_one_before_them(tmp_path: Path) -> None:
    writer = Process(tmp_path, kind="err")
    writer.write(line(1, "failed", "error", traceback="Traceback\n  boom"), line(2, "next", "warning"))
    writer.write("Traceback (most recent call last):", "  File x", "ValueError: no")
    newest, failed = page(streams(tmp_path), ALL, 9).entries
    assert newest.more == "Traceback (most recent call last):\n  File x\nValueError: no"
    assert failed.more == "Traceback\n  boom"
    assert events(page(streams(tmp_path), Wanted(text="valueerror"), 9).entries) == ["next"]


def test_lines_of_supervisord_and_redis_have_levels_and_instants(tmp_path: Path) -> None:
    when = datetime.fromtimestamp(BEGIN).astimezone()
    Process(tmp_path, "supervisord").write(f"{when:%Y-%m-%d %H:%M:%S},250 WARN received SIGTERM")
    Process(tmp_path, "redis").write(f"99:M {when:%d %b %Y %H:%M:%S}.500 # Out of memory", "plain words")
    redis, supervisord = page(streams(tmp_path), ALL, 9).entries
    assert (redis.at, redis.level, redis.event, redis.behind) == (
        BEGIN + 0.5, "warning", "Out of memory", ("plain words",),
    )  # fmt: skip
    assert (supervisord.at, supervisord.level, supervisord.event) == (BEGIN + 0.25, "warning", "received SIGTERM")
    assert len(page(streams(tmp_path), Wanted(level="warning"), 9).entries) == 2


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Wanted(level="warning"), ["slow"]),
        (Wanted(event="SENT"), ["campaign sent"]),
        (Wanted(text="grüße"), ["hello"]),
        (Wanted(text='say "hi"'), ["quoted"]),
        (Wanted(campaign=18), ["campaign sent", "boosted"]),
        (Wanted(campaign=1), []),
        (Wanted(server="relay"), ["slow"]),
        (Wanted(server="relay", server_id=5), ["slow", "numbered"]),
        (Wanted(pid=7), ["campaign sent", "quoted", "hello", "slow", "numbered", "boosted"]),
        (Wanted(pid=8), []),
        (Wanted(text="relay", campaign=18), []),
    ],
)
def test_conditions_find_what_they_say(tmp_path: Path, wanted: Wanted, found: list[str]) -> None:
    Process(tmp_path, "campaign_18-1_00").write(line(1, "boosted"))
    Process(tmp_path).write(
        line(2, "numbered", server_id=5), line(3, "slow", "warning", server="relay"), line(4, "hello", to="Grüße"),
        line(5, "quoted", said='say "hi"'), line(6, "campaign sent", campaign_id=18),
    )  # fmt: skip
    assert events(page(streams(tmp_path), wanted, 9).entries) == found


def test_a_time_range_reads_little_of_a_large_file(tmp_path: Path) -> None:
    writer = Process(tmp_path)
    writer.write(*(line(n, str(n), filler="x" * 400) for n in range(40_000)))
    whole = writer.path.stat().st_size
    (stream,) = streams(tmp_path)
    meter = Meter()
    with Text(stream, meter) as text:
        offset = locate(text, BEGIN + 20_000)
        assert text.read(offset, offset + 100).startswith(line(20_001, "20001")[:60].encode())
    assert meter.read < whole / 10
    found = page([stream], ALL, 3, since=BEGIN + 100, until=BEGIN + 200)
    assert events(found.entries) == ["200", "199", "198"]
    assert every_page(tmp_path, ALL, 60, since=BEGIN + 100, until=BEGIN + 200)[1][-1] == "100"
    assert events(page([stream], ALL, 9, until=BEGIN - 1).entries) == []
    assert page([stream], ALL, 9, since=BEGIN + 50_000) == Page([], None)


def test_a_search_that_finds_nothing_stops_and_says_how_far_it_looked(tmp_path: Path) -> None:
    writer = Process(tmp_path)
    writer.write(line(0, "needle"), *(line(n, str(n), filler="x" * 400) for n in range(1, 4000)))
    wanted, found, looks = Wanted(event="needle"), list[str](), 0
    first = page(streams(tmp_path), wanted, 9, most_bytes=500_000)
    assert first.entries == []
    assert first.looked_to is not None
    assert BEGIN < first.looked_to < BEGIN + 3999
    cursor = first.older
    while cursor is not None:
        one = page(streams(tmp_path), wanted, 9, cursor=cursor, most_bytes=500_000)
        found, cursor, looks = found + events(one.entries), one.older, looks + 1
    assert found == ["needle"]
    assert looks < 10


def test_a_hundred_megabytes_without_a_line_cost_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "send_00.log"
    with path.open("wb") as file:
        file.truncate(100_000_000)
        file.seek(0, os.SEEK_END)
        file.write(b"\n" + line(1, "last").encode() + b"\n")
    found = page(streams(tmp_path), ALL, 9, most_bytes=10_000_000)
    assert events(found.entries)[0] == "last"
    assert all(len(entry.text) <= 4 * BLOCK for entry in found.entries)


def test_only_the_directorys_own_logs_are_read(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (tmp_path / "secret.log").write_text(line(1, "secret") + "\n")
    (logs / "link.log").symlink_to(tmp_path / "secret.log")
    (logs / "admin_password").write_text("x")
    (logs / ".hidden.log").write_text("x\n")
    (logs / "directory.log").mkdir()
    os.mkfifo(logs / "pipe.log")
    Process(logs, "send_00").write(line(2, "fine"))
    assert [one.key for one in streams(logs)] == ["send_00.log"]
    assert streams(tmp_path / "nowhere") == []


def test_a_file_that_becomes_a_link_after_the_look_is_not_followed(tmp_path: Path) -> None:
    writer = Process(tmp_path)
    writer.write(line(1, "mine"))
    seen = streams(tmp_path)
    (tmp_path / "secret").write_text(line(1, "stolen") + "\n")
    writer.path.unlink()
    writer.path.symlink_to(tmp_path / "secret")
    assert page(seen, ALL, 9).entries == []


@pytest.mark.parametrize("text", ["x", "é", "AAAA", "A" * 8000, str(Cursor(-5.0, {})), "../../etc/passwd"])
def test_a_cursor_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="before is not allowed"):
        read_cursor(text, "before")


def test_a_cursor_of_many_processes_fits_into_an_address(tmp_path: Path) -> None:
    for number in range(100):
        Process(tmp_path, f"send-burst-{number}_00").write(line(number, "x"))
    cursor = present(streams(tmp_path), BEGIN)
    assert len(cursor.marks) == 100
    assert id_of("send-burst-7_00.log") in cursor.marks
    assert len(str(cursor)) < 3500
    assert read_cursor(str(cursor), "after") == cursor


def test_the_processes_of_a_group_are_its_own(tmp_path: Path) -> None:
    names = ["send_00", "send-burst-12_00", "campaign_18-1_00", "sender_00", "send", "periodic_00"]
    assert [n for n in names if group_pattern("send").fullmatch(n)] == ["send_00", "send-burst-12_00", "send"]
    assert [n for n in names if group_pattern("campaign_18").fullmatch(n)] == ["campaign_18-1_00"]


Step = st.one_of(
    st.tuples(st.just("write"), st.integers(0, 2), st.integers(1, 12)),
    st.tuples(st.just("rotate"), st.integers(0, 2), st.just(0)),
    st.tuples(st.just("look"), st.just(0), st.integers(1, 9)),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(Step, max_size=30), limit=st.integers(1, 20), size=st.sampled_from([0, 60_000]))
def test_whatever_happens_every_line_is_shown_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int]], limit: int, size: int
) -> None:
    directory = tmp_path_factory.mktemp("logs")
    writers = [Process(directory, name) for name in ("send_00", "send_01", "mail_00")]
    cursor = present(streams(directory), BEGIN)
    written: list[str] = []
    told: list[str] = []
    rotations = [0, 0, 0]
    for what, which, count in steps:
        if what == "write":
            for _ in range(count):
                writers[which].write(line(len(written), str(len(written)), filler="x" * (size if count == 5 else 0)))
                written.append(str(len(written)))
        elif what == "rotate" and rotations[which] < 5:
            writers[which].rotate()
            rotations[which] += 1
        else:
            new, cursor = followed(directory, cursor, count or 1)
            told += new
    new, cursor = followed(directory, cursor)
    assert told + new == written
    assert [event for one in every_page(directory, ALL, limit) for event in one] == written[::-1]

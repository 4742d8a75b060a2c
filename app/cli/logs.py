"""`bin/supervisor-manager logs`: the log files of a group's processes as one, in the order of time."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

from app.cli.verbs import Commands, add_verb
from app.config import settings
from app.errors import NotFound, UsageError
from app.watch.logs.cursor import Cursor, id_of
from app.watch.logs.files import START, Mark, Stream, group_pattern, streams
from app.watch.logs.search import news, page, present
from app.watch.logs.wanted import Entry, Wanted

LOOK_SECONDS = 0.25
#: Entries told at a time by a follower that has fallen behind.
CHUNK = 1000
EVERYTHING = Wanted()
EVER = float("inf")
#: Fields of our JSON lines that are shown in another place, or say what the reader knows.
SHOWN_ELSEWHERE = frozenset({"time", "level", "event", "logger", "pid", "program", "traceback"})
STYLES = {"warning": "yellow", "error": "bold red", "critical": "bold red"}


@dataclass(frozen=True)
class Line:
    """One line. `at`: seconds since 1970, its own or that of the entry it belongs to; `fields`: if it is JSON."""

    at: float
    process: str
    text: str
    fields: dict[str, Any] | None


def add_logs(commands: Commands, _root: Path) -> None:
    parser = add_verb(commands, "logs", logs, "a group's logs as one, in the order of time", "logs send -f --errors")
    parser.add_argument("name", metavar="NAME", help="a queue with its bursts and boosts, or a service")
    parser.add_argument("-f", "--follow", action="store_true", help="go on showing what is added")
    parser.add_argument("--errors", action="store_true", help="stderr instead of stdout")
    parser.add_argument("-n", "--lines", type=int, default=50, metavar="N", help="lines in all (default: 50)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line, as it was logged")


def logs(args: argparse.Namespace) -> int:
    """Run the command."""
    return show_logs(
        settings().logs, args.name, errors=args.errors, lines=args.lines, follow=args.follow, as_json=args.json
    )


def show_logs(directory: Path, name: str, *, errors: bool, lines: int, follow: bool, as_json: bool) -> int:
    """Print the last `lines` lines of a group, and with `follow` what comes, until Ctrl-C; raises NotFound."""
    if lines < 0:
        raise UsageError(f"--lines={lines} is not allowed: 0 or more")
    suffix = "err" if errors else "log"
    files = Files(directory, name, suffix)
    if not files.processes:
        raise NotFound(f"{name!r} has no .{suffix} file in {directory}")
    out = Printer(sys.stdout, as_json, max(map(len, files.processes)))
    try:
        for line in files.last(lines):
            out.print(line)
        while follow:
            sys.stdout.flush()
            time.sleep(LOOK_SECONDS)
            for line in files.added():
                out.print(line)
    except KeyboardInterrupt:
        pass  # the way to leave it
    return 0


class Files:
    """The log files of one group. What is there when this is made counts as old, the rest is told by `added`."""

    def __init__(self, directory: Path, name: str, suffix: str) -> None:
        self._directory, self._suffix = directory, suffix
        self._mine = group_pattern(name)
        now = time.time()
        self._old = self._look()
        self._cursor = present(self._old, now, EVER)

    @property
    def processes(self) -> list[str]:
        return [stream.process for stream in self._old]

    def last(self, count: int) -> list[Line]:
        """The last lines of all that was there together."""
        found: list[Line] = []
        before: Cursor | None = self._cursor
        while before is not None and len(found) < count:
            older = page(self._old, EVERYTHING, min(count, CHUNK), cursor=before)
            found, before = _lines(older.entries[::-1]) + found, older.older
        return found[-count:] if count else []

    def added(self) -> list[Line]:
        """What was written since, of new processes everything."""
        found: list[Line] = []
        more = True
        while more:
            now = time.time()
            there = self._look()
            begin = {id_of(one.key): Mark(one.parts[0].inode, *START) for one in there}
            cursor = Cursor(self._cursor.at, {**begin, **self._cursor.marks})
            new = news(there, EVERYTHING, CHUNK, cursor, now=now, active=EVER)
            found, self._cursor, more = found + _lines(new.entries), new.cursor, new.more
        return found

    def _look(self) -> list[Stream]:
        return [one for one in streams(self._directory, (self._suffix,)) if self._mine.fullmatch(one.process)]


def _lines(entries: Iterable[Entry]) -> list[Line]:
    found = []
    for entry in entries:
        fields = json.loads(entry.text) if entry.fields is not None else None
        found.append(Line(entry.at, entry.process, entry.text, fields))
        found += [Line(entry.at, entry.process, line, None) for line in entry.behind]
    return found


class Printer:
    """Readable lines with the process before each; with `as_json` one JSON object a line."""

    def __init__(self, stream: TextIO, as_json: bool, width: int) -> None:
        self._json, self._width, self._stream = as_json, width, stream
        self._console = Console(file=stream, highlight=False, soft_wrap=True)

    def print(self, line: Line) -> None:
        if self._json:
            found = {"process": line.process, **(line.fields or {"text": line.text})}
            self._stream.write(json.dumps(found, ensure_ascii=False) + "\n")
            return
        self._console.print(self._readable(line))

    def _readable(self, line: Line) -> Text:
        text = Text()
        text.append(f"{line.process:<{self._width}} ", "cyan")
        if line.fields is None:
            return text.append(line.text)
        level = str(line.fields.get("level", ""))
        when = datetime.fromtimestamp(line.at, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + "Z" if line.at else ""
        text.append(f"{when} ", "dim")
        if level not in ("", "info"):
            text.append(f"{level} ", STYLES.get(level, ""))
        text.append(str(line.fields.get("event", line.text)), STYLES.get(level, "bold"))
        for key, value in line.fields.items():
            if key not in SHOWN_ELSEWHERE:
                text.append(f"  {key}=", "dim").append(str(value))
        if "traceback" in line.fields:
            for row in str(line.fields["traceback"]).splitlines():
                text.append("\n").append(f"{'':<{self._width}}   {row}", "dim")
        return text

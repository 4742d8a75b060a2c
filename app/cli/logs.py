"""`bin/supervisor-manager logs`: the log files of a group's processes as one, in the order of time."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from rich.console import Console
from rich.text import Text

from app.errors import NotFound, UsageError

#: supervisord keeps PROCESS.log.1 (the newest) … PROCESS.log.5 beside PROCESS.log.
BACKUPS = 5
BLOCK = 65_536
LOOK_SECONDS = 0.25
#: Lines read before the ones asked for: a long traceback is as old as the line it stands behind.
CONTEXT = 200
#: How often a follower looks for the files of processes that are new.
NEW_FILES_SECONDS = 1.0
#: Fields of our JSON lines that are shown in another place, or say what the reader knows.
SHOWN_ELSEWHERE = frozenset({"time", "level", "event", "logger", "pid", "program", "traceback"})
STYLES = {"warning": "yellow", "error": "bold red", "critical": "bold red"}


@dataclass(frozen=True)
class Line:
    """One line. `at`: seconds since 1970, its own or the last one before it in its file; `fields`: if it is JSON."""

    at: float
    process: str
    text: str
    fields: dict[str, Any] | None


def show_logs(directory: Path, name: str, *, errors: bool, lines: int, follow: bool, as_json: bool) -> int:
    """Print the last `lines` lines of a group, and with `follow` what comes, until Ctrl-C; raises NotFound."""
    if lines < 0:
        raise UsageError(f"--lines={lines} is not allowed: 0 or more")
    suffix = "err" if errors else "log"
    files = Files(directory, name, suffix)
    if not files.find():
        raise NotFound(f"{name!r} has no .{suffix} file in {directory}")
    out = Printer(sys.stdout, as_json, max(len(process) for process in files.tails))
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
    """The log files of one group; `tails` by process."""

    def __init__(self, directory: Path, name: str, suffix: str) -> None:
        self._directory, self._suffix = directory, suffix
        self._mine = re.compile(re.escape(name) + r"(-burst-\d+|-\d+)?(_\d{2,})?")
        self._due = 0.0
        self.tails: dict[str, Tail] = {}

    def find(self) -> bool:
        """Take in the files that are new; whether there is any."""
        for path in sorted(self._directory.glob(f"*.{self._suffix}")):
            if self._mine.fullmatch(path.stem) and path.stem not in self.tails:
                self.tails[path.stem] = Tail(path)
        self._due = time.monotonic() + NEW_FILES_SECONDS
        return bool(self.tails)

    def last(self, count: int) -> list[Line]:
        """The last lines of all together; what is added comes behind them."""
        return _merged(line for tail in self.tails.values() for line in tail.last(count))[-count:] if count else []

    def added(self) -> list[Line]:
        """What was written since, of new processes everything."""
        known = set(self.tails)
        if time.monotonic() > self._due:
            self.find()
        for process in set(self.tails) - known:
            self.tails[process].rewind()
        return _merged(line for tail in self.tails.values() for line in tail.added())


def _merged(lines: Iterator[Line]) -> list[Line]:
    # Stable: lines of one instant stay together by file, so a traceback stays behind its line.
    return sorted(lines, key=lambda line: line.at)


class Tail:
    """One process's log through its rotations: supervisord renames, so the open file is read to its end first."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = _open(path)
        self._rest = b""
        self._at = 0.0
        if self._file:
            # Only what is there now counts as old; the rest is told by `added`.
            self._end = self._file.seek(0, os.SEEK_END)

    def rewind(self) -> None:
        """Count everything in the present file as added."""
        if self._file:
            self._file.seek(0)

    def last(self, count: int) -> list[Line]:
        """The last lines of this process, from rotated files too when the present one is short."""
        found: list[bytes] = []
        wanted = count + CONTEXT
        if self._file:
            found = _last_lines(self._file, self._end, wanted)
            self._file.seek(self._end)
            if found and not found[-1].endswith(b"\n"):
                self._rest = found.pop()  # half a line: it is told when it is whole
        for number in range(1, BACKUPS + 1):
            older = _open(_backup(self._path, number)) if len(found) < wanted else None
            if older is None:
                break
            with older:
                # A rotation since we opened ours: this is the same file once more.
                if self._file and os.path.sameopenfile(older.fileno(), self._file.fileno()):
                    continue
                found = _last_lines(older, older.seek(0, os.SEEK_END), wanted - len(found)) + found
        lines = self._lines(found)
        if self._file and lines and not lines[0].at:
            # Those before the first instant belong to it; a file without any was last written at that moment.
            written = os.fstat(self._file.fileno()).st_mtime
            first = next((line.at for line in lines if line.at), written)
            self._at = self._at or written
            lines = [line if line.at else replace(line, at=first) for line in lines]
        return lines[-count:]

    def added(self) -> list[Line]:
        """The whole lines that were written since the last call."""
        data = b"".join(self._read())
        *whole, self._rest = (self._rest + data).split(b"\n")
        self._at = self._at or time.time()
        return self._lines(whole)

    def _read(self) -> Iterator[bytes]:
        if self._file is None:
            self._file = _open(self._path)
            if self._file is None:
                return
        # Asked before reading: what was written up to a rotation is then read from the old file.
        newer = self._newer()
        if os.fstat(self._file.fileno()).st_size < self._file.tell():
            self._file.seek(0)  # somebody emptied it
        yield self._file.read()
        for file in newer:
            self._file.close()
            self._file = file
            yield file.read()

    def _newer(self) -> list[BinaryIO]:
        """The files that took the place of ours, the oldest first; none when ours is still the present one."""
        assert self._file is not None
        newer: list[BinaryIO] = []
        for number in range(BACKUPS + 1):
            file = _open(_backup(self._path, number) if number else self._path)
            if file is None:
                if number == 0:
                    return []  # in the middle of a rotation: the next look sees its end
                break
            if os.path.sameopenfile(file.fileno(), self._file.fileno()):
                file.close()
                return newer[::-1]
            newer.append(file)
        # Ours is gone altogether: what is left begins with the present file.
        for file in newer[1:]:
            file.close()
        return newer[:1]

    def _lines(self, raw: list[bytes]) -> list[Line]:
        return [self._line(one.rstrip(b"\n").decode(errors="replace")) for one in raw]

    def _line(self, text: str) -> Line:
        fields = None
        if text.startswith("{"):
            try:
                fields = json.loads(text)
                self._at = datetime.fromisoformat(fields["time"]).timestamp()
            except (ValueError, KeyError, TypeError):
                pass  # not one of ours: it belongs behind the line before it
        return Line(self._at, self._path.stem, text, fields if isinstance(fields, dict) else None)


def _open(path: Path) -> BinaryIO | None:
    try:
        return path.open("rb")
    except FileNotFoundError:
        return None


def _backup(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def _last_lines(file: BinaryIO, end: int, count: int) -> list[bytes]:
    """The last `count` lines before `end`, with their newlines, read from behind."""
    data, at = b"", end
    while at > 0 and data.count(b"\n") <= count:
        step = min(BLOCK, at)
        at -= step
        file.seek(at)
        data = file.read(step) + data
    # Not splitlines: a carriage return does not end a line here.
    lines = [line + b"\n" for line in data.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    return [line for line in lines if line][-count:] if count > 0 else []


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

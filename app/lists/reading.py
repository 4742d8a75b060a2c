"""Read a CSV of any size, in any encoding, record by record, without trusting it.

One bad record costs that record: bytes that cannot be decoded become marks in their row only, and
a quote that is never closed takes its own line, not the rest of the file.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from app.errors import UsageError

# In characters. A record longer than this is damage (usually an unclosed quote), not a person.
RECORD_LIMIT = 64 * 1024
READ_AHEAD = 64 * 1024

_MARKS = "mailcrew.marks"
# Bytes that could not be decoded become U+DC00 + byte; a decoder alone never yields any of these.
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_QUOTED = re.compile(r'"[^"]*"')
_SEPARATOR_LINE = re.compile(r"sep=([,;\t])[\r\n]*")

UNCLOSED = "a quote is opened and never closed"
UNDOUBLED = 'a quote inside a quoted cell is not doubled ("")'
TOO_LONG = f"the row is longer than {RECORD_LIMIT // 1024} KiB; only its beginning is kept here"


def _mark(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(chr(0xDC00 + byte) for byte in error.object[error.start : error.end]), error.end


codecs.register_error(_MARKS, _mark)


@dataclass(slots=True)
class Record:
    """One record: the line it starts on, its text, and its cells, or the problem why there are none."""

    line: int
    raw: str
    cells: list[str]
    problem: str = ""


class CsvReader:
    """The records of a CSV stream; `bytes_read` tells how far the stream has been read.

    The first record is the header, or asked for by `first`. Delimiter: whichever of comma, semicolon and tab is
    most frequent in it. Raises UsageError for an unknown encoding or a file that is no CSV.
    """

    def __init__(self, source: BinaryIO, encoding: str | None = None) -> None:
        self._counted = _Counted(source)
        buffered = io.BufferedReader(self._counted, READ_AHEAD)
        self.encoding = _encoding(encoding, buffered.peek(4)[:4])
        text = io.TextIOWrapper(buffered, encoding=self.encoding, errors=_MARKS, newline="")
        self._lines = _Lines(text)
        self.delimiter = ","

    @property
    def bytes_read(self) -> int:
        return self._counted.count

    def header(self) -> list[str]:
        """The cells of the first line that is not blank; raises UsageError when it is unusable."""
        header = self.first()
        if header is None:
            raise UsageError("the file is empty: its first line must name the columns")
        if header.problem:
            raise UsageError(f"the header (line {header.line}) cannot be read: {header.problem}")
        return header.cells

    def first(self) -> Record | None:
        """The first record, whatever it is, by which the delimiter is found; None when the file is empty.

        Raises UsageError when the file is not in the encoding at all.
        """
        try:
            first = self._lines.take()
        except UnicodeError as error:
            raise UsageError(f"the file is not {self.encoding}: {error}") from error
        if named := _SEPARATOR_LINE.fullmatch(first):
            # Excel's own way to name the delimiter.
            self.delimiter = named[1]
        else:
            self._lines.give_back([first])
            outside = _QUOTED.sub("", first)
            self.delimiter = max(",;\t", key=outside.count)
        return next(self.records(), None)

    def records(self) -> Iterator[Record]:
        """Every record that follows, blank lines left out."""
        lines = self._lines
        while line := lines.take():
            if len(line) > RECORD_LIMIT:
                yield Record(lines.start, line[:RECORD_LIMIT] + "…", [], TOO_LONG)
                lines.skip_rest_of_line(line)
            elif '"' in line:
                yield self._quoted(line)
            elif stripped := line.rstrip("\r\n"):
                problem = self._damage(line)
                yield Record(lines.start, line, [] if problem else stripped.split(self.delimiter), problem)

    def _quoted(self, line: str) -> Record:
        feed = _Feed(self._lines, line)
        start = self._lines.start
        problem = ""
        cells: list[str] = []
        try:
            cells = next(csv.reader(feed, delimiter=self.delimiter, strict=True))
        except _TooLong:
            problem = UNCLOSED
        except csv.Error as error:
            problem = UNCLOSED if "unexpected end" in str(error) or len(feed.taken) > 1 else UNDOUBLED
        if problem:
            # What looks like one long cell is really the lines after a stray quote: read them again.
            self._lines.give_back(feed.taken[1:])
            return Record(start, line, [], problem)
        raw = "".join(feed.taken)
        problem = self._damage(raw)
        return Record(start, raw, [] if problem else cells, problem)

    def _damage(self, raw: str) -> str:
        """What is wrong with the characters themselves, or nothing."""
        if "\0" in raw:
            return "it contains a NUL byte"
        if raw.isascii():
            return ""
        found = _SURROGATE.search(raw)
        return f"{visible(found[0])} is not {self.encoding}; is another --encoding right?" if found else ""


def visible(raw: str) -> str:
    r"""Text that can be written as UTF-8 and read by people: bytes that were not decoded as `\xNN`."""
    if "\0" in raw:
        raw = raw.replace("\0", r"\x00")
    return raw if raw.isascii() else _SURROGATE.sub(_escape, raw)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return rf"\x{code - 0xDC00:02x}" if 0xDC00 <= code <= 0xDCFF else rf"\u{code:04x}"


class _TooLong(Exception):
    """Raised when a quoted cell has run over so many lines that its end must be missing."""


class _Counted(io.RawIOBase):
    """Counts what is read from a stream, so that a pipe can show progress too."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self.count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self._source.read(len(buffer))
        buffer[: len(data)] = data
        self.count += len(data)
        return len(data)


class _Lines:
    """Physical lines with their numbers. A line may be given back, to be read once more."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self._again: deque[str] = deque()
        self._ends = "\n"
        self._next = 1
        #: The number of the line taken last.
        self.start = 0

    def take(self) -> str:
        """The next line with its end, "" at the end of the file; never much longer than a record."""
        line = self._again.popleft() if self._again else self._text.readline(RECORD_LIMIT + 1)
        if self.start == 0:
            line = line.removeprefix("\ufeff")
            # A lone CR ends a line only in a file from an old Mac; elsewhere it is part of a cell.
            self._ends = "\r" if line.endswith("\r") else "\n"
        self.start = self._next
        if line.endswith(self._ends):
            self._next += 1
        return line

    def give_back(self, lines: list[str]) -> None:
        self._again.extendleft(reversed(lines))
        self._next -= sum(line.endswith(self._ends) for line in lines)

    def skip_rest_of_line(self, line: str) -> None:
        while line and not line.endswith(self._ends):
            line = self.take()


class _Feed:
    """Lines for one record, the first already in hand; raises _TooLong past the limit."""

    def __init__(self, lines: _Lines, first: str) -> None:
        self._lines = lines
        self._size = 0
        self.taken: list[str] = []
        self._first = first

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        line = self._lines.take() if self.taken else self._first
        if not line:
            raise StopIteration
        self.taken.append(line)
        self._size += len(line)
        if self._size > RECORD_LIMIT:
            raise _TooLong
        return line


def _encoding(wanted: str | None, head: bytes) -> str:
    """The codec to read with: the one asked for, else what the first bytes say, else UTF-8."""
    if head.startswith((b"PK\x03\x04", b"\x1f\x8b", b"\xd0\xcf\x11\xe0")):
        raise UsageError("this is an archive or a workbook, not a CSV: unpack it, or save it as CSV first")
    if wanted is None:
        return "utf-16" if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8"
    try:
        # Codecs that are not for text fail at the first line; those that cannot mark errors, at the second.
        b"".decode(wanted)
        codecs.getincrementaldecoder(wanted)(_MARKS).decode("a".encode(wanted) + b"\xff\n", True)
    except (LookupError, UnicodeError, ValueError, TypeError) as error:
        raise UsageError(
            f"--encoding {wanted!r} is not an encoding we know: utf-8, gb18030, windows-1252, utf-16 …"
        ) from error
    return wanted

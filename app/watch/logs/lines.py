"""The lines of a text, from behind or from before, a bounded block at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from app.watch.logs.files import Text

BLOCK = 65_536
#: Of a longer line only the beginning is kept.
LONGEST_LINE = 262_144
#: The end of a text is looked for in blocks of so many bytes: mostly it is its last byte.
_STEP = 4096


@dataclass(frozen=True, slots=True)
class Piece:
    """One line without its newline. `begin` and `end`: its offsets, the newline included."""

    begin: int
    end: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class Skipped:
    """Lines that were passed over; `begin`: where they begin, `first`: the first of them."""

    begin: int
    first: bytes


def whole_end(text: Text) -> int:
    """Where the last whole line ends: what stands behind it is still being written."""
    at = text.size
    while at > 0:
        begin = max(0, at - (1 if at == text.size else _STEP))
        found = text.read(begin, at).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        at = begin
    return 0


def backwards(text: Text, end: int, skip: Callable[[bytes], bool] | None = None) -> Iterator[Piece | Skipped]:
    """The lines before `end`, the last first. `skip`: told the bytes of a block, whether nobody wants a line of it."""
    # `tail` is the line whose beginning lies before `at`, as far as it is known; it ends at `tail_end`.
    at, tail, tail_end = end, b"", end
    while at > 0:
        begin = max(0, at - BLOCK)
        block = text.read(begin, at)
        if len(block) < at - begin:
            return  # its file has been removed meanwhile, so there is nothing older
        data = block + tail
        first = block.find(b"\n") + 1 if begin else 0
        if begin and not first:
            at, tail = begin, data[:LONGEST_LINE]
            continue
        if skip is None or not skip(data):
            yield from reversed(_split(data[first:], begin + first, tail_end))
        elif first < len(data):
            yield Skipped(begin + first, data[first:].partition(b"\n")[0])
        at, tail, tail_end = begin, block[:first], begin + first


def forwards(text: Text, begin: int, end: int) -> Iterator[Piece]:
    """The whole lines from `begin` to before `end`."""
    at, rest, dropped = begin, b"", 0
    while at < end:
        block = text.read(at, min(end, at + BLOCK))
        if not block:
            return
        at += len(block)
        *lines, last = block.split(b"\n")
        for line in lines:
            size = len(rest) + dropped + len(line) + 1
            yield Piece(begin, begin + size, (rest + line)[:LONGEST_LINE])
            begin, rest, dropped = begin + size, b"", 0
        joined = rest + last
        rest = joined[:LONGEST_LINE]
        dropped += len(joined) - len(rest)


def _split(data: bytes, begin: int, end: int) -> list[Piece]:
    """The lines of `data`, which begins at `begin`. Was the last one cut, it has no newline, and ends at `end`."""
    *lines, last = data.split(b"\n")
    found = []
    for line in lines:
        found.append(Piece(begin, begin + len(line) + 1, line[:LONGEST_LINE]))
        begin += len(line) + 1
    if last:
        found.append(Piece(begin, end, last[:LONGEST_LINE]))
    return found

"""Entries of many logs as one, in the order of time: pages from behind, and what is new."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from app.watch.logs.cursor import Cursor, id_of
from app.watch.logs.entries import Passed, Raw, entries_back, entries_on, locate
from app.watch.logs.files import Mark, Meter, Stream, Text
from app.watch.logs.lines import whole_end
from app.watch.logs.wanted import Entry, Mask, Wanted, understood

#: A page reads so many bytes at most, and looks at so many entries; then it says how far it got.
MOST_BYTES = 32_000_000
MOST_ENTRIES = 30_000
#: Streams that were not written for so long (seconds) are found again by the instant.
ACTIVE_SECONDS = 3600.0
#: A file's own clock is a little late.
SLACK_SECONDS = 1.0


@dataclass(frozen=True)
class Page:
    """`entries`: the newest first. `older`: where the next page begins, None when there is nothing older.

    `looked_to`: reading was ended at this instant (seconds since 1970), before the page was full; None: it was not.
    """

    entries: list[Entry]
    older: Cursor | None
    looked_to: float | None = None


@dataclass(frozen=True)
class News:
    """`entries`: in the order of time. `cursor`: where the next look begins; with `more` it finds something at once."""

    entries: list[Entry]
    cursor: Cursor
    more: bool


def present(streams: Sequence[Stream], now: float, active: float = ACTIVE_SECONDS) -> Cursor:
    """The end of what is there: what is written from here on is new. `now` was before the streams were looked at.

    `active`: streams that were not written for so long (seconds) have no mark.
    """
    at = now - SLACK_SECONDS
    marks: dict[int, Mark] = {}
    for stream in streams:
        if stream.mtime > at - active:
            with Text(stream) as text:
                marks[id_of(stream.key)] = text.mark(whole_end(text))
    return Cursor(at, marks)


def page(
    streams: Sequence[Stream],
    wanted: Wanted,
    limit: int,
    *,
    cursor: Cursor | None = None,
    since: float | None = None,
    until: float | None = None,
    mask: Mask = str,
    most_bytes: int = MOST_BYTES,
) -> Page:
    """The newest entries; those before `cursor`, not earlier than `since`, not later than `until`."""
    with ExitStack() as stack:
        meter = Meter()
        sources = [_Back(stack.enter_context(Text(stream, meter)), wanted, cursor, until) for stream in streams]
        return _Search(sources, wanted, limit, since, mask, most_bytes, meter).page()


def news(
    streams: Sequence[Stream],
    wanted: Wanted,
    limit: int,
    cursor: Cursor,
    *,
    now: float,
    mask: Mask = str,
    active: float = ACTIVE_SECONDS,
) -> News:
    """What was written behind `cursor`; `now` was before the streams were looked at."""
    with ExitStack() as stack:
        meter = Meter()
        texts = [
            stack.enter_context(Text(stream, meter))
            for stream in streams
            if stream.mtime > cursor.at or cursor.mark(stream.key) is not None
        ]
        places = {text.stream.key: _place_of(text, cursor) for text in texts}
        runs = [_on(text, places[text.stream.key]) for text in texts]
        found: list[Entry] = []
        more = False
        for seen, (raw, text) in enumerate(heapq.merge(*runs, key=lambda one: one[0].at)):
            if len(found) >= limit or seen >= MOST_ENTRIES or meter.read > MOST_BYTES:
                more = True
                break
            places[text.stream.key] = raw.end
            if entry := _wanted(raw, text.stream, wanted, mask):
                found.append(entry)
        at = cursor.at if more else now - SLACK_SECONDS
        marks = {
            id_of(text.stream.key): text.mark(places[text.stream.key])
            for text in texts
            if more or text.stream.mtime > at - active
        }
        return News(found, Cursor(at, marks), more)


def _on(text: Text, begin: int) -> Iterator[tuple[Raw, Text]]:
    for raw in entries_on(text, begin, whole_end(text)):
        yield raw, text


def _place_of(text: Text, cursor: Cursor) -> int:
    """Where what is new begins in a stream."""
    mark = cursor.mark(text.stream.key)
    if mark is None:
        return locate(text, cursor.at)
    found = text.find(mark)
    # Emptied by somebody; or rotated so often that nothing is left of what was there then.
    return locate(text, cursor.at) if found is None else found


def _wanted(raw: Raw, stream: Stream, wanted: Wanted, mask: Mask) -> Entry | None:
    entry = understood(raw, stream.process, stream.kind, mask)
    return entry if wanted.matches(entry) else None


class _Back:
    """One stream read from behind. `bound`: nothing that is left of it is later than that."""

    def __init__(self, text: Text, wanted: Wanted, cursor: Cursor | None, until: float | None) -> None:
        self.text = text
        self._cursor, self._until = cursor, until
        self._items: Iterator[Raw | Passed] | None = None
        self.item: Raw | Passed | None = None
        self.place, self.taken_at = 0, float("inf")
        self.passes_over = wanted.passes_over(text.stream.kind)
        latest = [text.stream.mtime, until, cursor.at if cursor and not cursor.mark(text.stream.key) else None]
        self.bound = min(one for one in latest if one is not None)

    @property
    def is_open(self) -> bool:
        return self._items is not None

    def open(self) -> None:
        self.place = self._begin()
        self._items = entries_back(self.text, self.place, self.passes_over)
        self._next()

    def take(self) -> Raw | Passed:
        """The present item; the next one is the present one then."""
        taken = self.item
        assert taken is not None
        self.place, self.taken_at = taken.begin, taken.at
        self._next()
        return taken

    def _next(self) -> None:
        assert self._items is not None
        self.item = next(self._items, None)
        self.bound = self.item.at if self.item else float("-inf")

    def _begin(self) -> int:
        if self._cursor is None:
            return whole_end(self.text) if self._until is None else locate(self.text, self._until)
        mark = self._cursor.mark(self.text.stream.key)
        if mark is None:
            return locate(self.text, self._cursor.at)
        # Of a file that has gone nothing older is left.
        return self.text.find(mark) or 0


class _Search:
    """One page, from the latest entry on."""

    def __init__(
        self, sources: list[_Back], wanted: Wanted, limit: int, since: float | None, mask: Mask, most_bytes: int,
        meter: Meter,
    ) -> None:  # fmt: skip
        self._sources, self._wanted, self._limit, self._mask = sources, wanted, limit, mask
        self._since = float("-inf") if since is None else since
        self._most_bytes, self._meter = most_bytes, meter
        self._at, self._looked_at = float("inf"), 0
        self._found: list[Entry] = []

    def page(self) -> Page:
        heap = [(-source.bound, number) for number, source in enumerate(self._sources)]
        heapq.heapify(heap)
        while heap and -heap[0][0] >= self._since:
            if len(self._found) >= self._limit:
                return Page(self._found, self._cursor())
            source = self._sources[heap[0][1]]
            if not source.is_open:
                source.open()
            elif self._looked_at >= MOST_ENTRIES or self._meter.read > self._most_bytes:
                return Page(self._found, self._cursor(), self._at)
            else:
                self._take(source)
            if source.is_open and source.item is None:
                heapq.heappop(heap)
            else:
                heapq.heapreplace(heap, (-source.bound, heap[0][1]))
        return Page(self._found, None)

    def _take(self, source: _Back) -> None:
        taken = source.take()
        self._at, self._looked_at = taken.at, self._looked_at + 1
        if isinstance(taken, Passed):
            return
        if source.passes_over and source.passes_over(b"\n".join([taken.line, *taken.more])):
            return
        if entry := _wanted(taken, source.text.stream, self._wanted, self._mask):
            self._found.append(entry)

    def _cursor(self) -> Cursor:
        """Where the next page begins. A stream that was read to its beginning has nothing earlier than `at`."""
        open_ = [one for one in self._sources if one.is_open and (one.item is not None or one.taken_at <= self._at)]
        return Cursor(self._at, {id_of(one.text.stream.key): one.text.mark(one.place) for one in open_})

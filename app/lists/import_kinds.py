"""What becomes of the rows of an uploaded file: people on a list, or rules of suppression."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from app.db import Db
from app.lists.columns import find_columns
from app.lists.importing import Chunk, chunks
from app.lists.people import Outcome, write_people
from app.lists.reading import CsvReader, Record
from app.lists.rule_file import RuleChunk, open_rules, rule_chunks
from app.lists.suppressing import add_in_turn, add_rules, reach_all

#: In place of a list: what is imported is rules of suppression.
NO_LIST = 0


@dataclass(frozen=True, slots=True)
class Came:
    """What a chunk came to; `blocked`: subscribers who were active until now."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    blocked: int = 0


class Piece(Protocol):
    """Rows that are written together."""

    @property
    def rows(self) -> int: ...

    @property
    def rejected(self) -> list[tuple[int, str, str]]: ...

    def write(self, db: Db) -> Came:
        """Within the caller's transaction, which has taken its turn."""
        ...

    def write_again(self, db: Db) -> None:
        """For a transaction that could take no turn: see `app/lists/turn.py`."""
        ...


class Kind(Protocol):
    """How the file of an import is read."""

    def records(self, reader: CsvReader) -> Iterator[Record]:
        """The rows; raises UsageError when the header is unusable."""
        ...

    def pieces(self, records: Iterator[Record]) -> Iterator[Piece]:
        """What is left of the rows."""
        ...

    def finish(self, db: Db, page_done: Callable[[], object]) -> int:
        """After the last row: how many more were blocked."""
        ...


def kind_of(list_id: int, reason: str | None) -> Kind:
    """The kind of an import into this list."""
    return _Rules(reason or "") if list_id == NO_LIST else _People(list_id)


class _People:
    def __init__(self, list_id: int) -> None:
        self._list_id = list_id

    def records(self, reader: CsvReader) -> Iterator[Record]:
        self._columns = find_columns(reader.header())
        return reader.records()

    def pieces(self, records: Iterator[Record]) -> Iterator[Piece]:
        return (_SomePeople(self._list_id, chunk) for chunk in chunks(records, self._columns))

    def finish(self, db: Db, page_done: Callable[[], object]) -> int:  # noqa: ARG002 (the protocol's)
        return 0


class _SomePeople:
    def __init__(self, list_id: int, chunk: Chunk) -> None:
        self._list_id, self._chunk = list_id, chunk
        self.rows, self.rejected = chunk.rows, chunk.rejected

    def write(self, db: Db) -> Came:
        people = self._chunk.people
        came = Counter(write_people(db, self._list_id, people) if people else ())
        return Came(came[Outcome.CREATED], came[Outcome.UPDATED], came[Outcome.UNCHANGED])

    def write_again(self, db: Db) -> None:
        """Never needed: there is a list, so there is a turn to take."""


class _Rules:
    def __init__(self, reason: str) -> None:
        self._reason = reason

    def records(self, reader: CsvReader) -> Iterator[Record]:
        self._columns, records = open_rules(reader)
        return records

    def pieces(self, records: Iterator[Record]) -> Iterator[Piece]:
        return (_SomeRules(chunk) for chunk in rule_chunks(self._columns, records, self._reason))

    def finish(self, db: Db, page_done: Callable[[], object]) -> int:
        return reach_all(db, page_done)


class _SomeRules:
    def __init__(self, chunk: RuleChunk) -> None:
        self._chunk = chunk
        self.rows, self.rejected = chunk.rows, chunk.rejected

    def write(self, db: Db) -> Came:
        added = add_in_turn(db, self._chunk.wanted)
        unchanged = self.rows - len(self.rejected) - added.created
        return Came(created=added.created, unchanged=unchanged, blocked=added.blocked)

    def write_again(self, db: Db) -> None:
        add_rules(db, self._chunk.wanted)

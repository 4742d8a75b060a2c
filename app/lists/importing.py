"""Import a CSV into a list: in flat memory, chunk by chunk, each chunk a transaction.

An import that is interrupted leaves whole chunks behind; importing the file again completes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from app.db import Db
from app.lists.columns import BadRow, Columns, Person, find_columns
from app.lists.memberships import find_or_create_list, list_name
from app.lists.people import Outcome, write_people
from app.lists.reading import CsvReader, Record
from app.lists.rejects import Rejects
from app.lists.turn import take_turn, with_patience

ROWS_A_CHUNK = 2000
# In characters of the file: keeps memory flat and statements far below MySQL's max_allowed_packet.
CHUNK_LIMIT = 1_000_000

#: Called after each chunk with the bytes of the file and the rows read so far.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What an import did; `read` is the sum of the four counts after it.

    created: new people, and known ones who were not (or no longer) on this list. updated: members
    whose name, attributes or status changed. A person twice in the file counts at each row.
    """

    list: str
    read: int
    created: int
    updated: int
    unchanged: int
    rejected: int
    rejects_file: str | None


def import_csv(
    db: Db,
    source: BinaryIO,
    *,
    list_to: str,
    rejects_in: Path,
    file_name: str,
    encoding: str | None = None,
    progress: Progress = lambda _bytes, _rows: None,
) -> ImportResult:
    """Read people from a CSV into a list, which is made when missing.

    `file_name` names the rejects file in the directory `rejects_in`. Raises UsageError, before
    anything is written, when the name of the list, the encoding or the header is unusable.
    """
    name = list_name(list_to)
    reader = CsvReader(source, encoding)
    columns = find_columns(reader.header())
    run = _Import(db, find_or_create_list(db, name), columns, Rejects(rejects_in, file_name))
    run.all_of(reader, progress)
    path = run.rejects.path
    counts = run.counts
    return ImportResult(
        list=name,
        read=counts.total() + run.rejected,
        created=counts[Outcome.CREATED],
        updated=counts[Outcome.UPDATED],
        unchanged=counts[Outcome.UNCHANGED],
        rejected=run.rejected,
        rejects_file=str(path) if path else None,
    )


class _Import:
    def __init__(self, db: Db, list_id: int, columns: Columns, rejects: Rejects) -> None:
        self._db = db
        self._list_id = list_id
        self._columns = columns
        self.rejects = rejects
        self.rejected = 0
        self.counts: Counter[Outcome] = Counter()

    def all_of(self, reader: CsvReader, progress: Progress) -> None:
        rows = 0
        try:
            for chunk in chunks(reader.records(), self._columns):
                rows += chunk.rows
                self._write(chunk)
                progress(reader.bytes_read, rows)
        finally:
            self.rejects.close()

    def _write(self, chunk: Chunk) -> None:
        self.rejected += len(chunk.rejected)
        self.rejects.add_all(chunk.rejected)
        if chunk.people:
            self.counts.update(write_with_patience(self._db, self._list_id, chunk.people))


@dataclass(slots=True)
class Chunk:
    """Rows that are written together. `rejected`: line, reason and text of those that cannot be."""

    rows: int = 0
    size: int = 0
    people: list[Person] = field(default_factory=list)
    rejected: list[tuple[int, str, str]] = field(default_factory=list)

    @property
    def full(self) -> bool:
        return len(self.people) >= ROWS_A_CHUNK or self.size > CHUNK_LIMIT


def chunks(records: Iterator[Record], columns: Columns) -> Iterator[Chunk]:
    """The rows that are still to be read; the last chunk may be empty."""
    chunk = Chunk()
    for record in records:
        chunk.rows += 1
        chunk.size += len(record.raw)
        try:
            if record.problem:
                raise BadRow(record.problem)
            chunk.people.append(columns.person(record.cells))
        except BadRow as reason:
            chunk.rejected.append((record.line, str(reason), record.raw))
        if chunk.full:
            yield chunk
            chunk = Chunk()
    yield chunk


def write_with_patience(db: Db, list_id: int, people: Sequence[Person]) -> list[Outcome]:
    """write_people in a transaction, in its turn, tried again while another import or a restart is in the way.

    Raises Unavailable when the database stays away.
    """

    def write() -> list[Outcome]:
        take_turn(db)
        return write_people(db, list_id, people)

    hint = f"all rows before {people[0].email} are in: import the file again to complete it"
    return with_patience(db, write, hint)

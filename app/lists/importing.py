"""Import a CSV into a list: in flat memory, chunk by chunk, each chunk a transaction.

An import that is interrupted leaves whole chunks behind; importing the file again completes it.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import peewee

from app.db import Db
from app.db.connection import DatabaseTrouble
from app.errors import Unavailable
from app.lists.columns import BadRow, Columns, Person, find_columns
from app.lists.memberships import find_or_create_list, list_name
from app.lists.people import Outcome, write_people
from app.lists.reading import CsvReader
from app.lists.rejects import Rejects

ROWS_A_CHUNK = 2000
# In characters of the file: keeps memory flat and statements far below MySQL's max_allowed_packet.
CHUNK_LIMIT = 1_000_000
# Another import of the same people, or a restarting database, is over within these.
ATTEMPTS = 10
FIRST_PAUSE = 0.02
LONGEST_PAUSE = 3.0

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
        chunk: list[Person] = []
        size = rows = 0
        try:
            for record in reader.records():
                try:
                    if record.problem:
                        raise BadRow(record.problem)
                    chunk.append(self._columns.person(record.cells))
                except BadRow as reason:
                    self.rejected += 1
                    self.rejects.add(record.line, str(reason), record.raw)
                rows += 1
                size += len(record.raw)
                if len(chunk) >= ROWS_A_CHUNK or size > CHUNK_LIMIT:
                    self._write(chunk)
                    progress(reader.bytes_read, rows)
                    chunk, size = [], 0
            self._write(chunk)
            progress(reader.bytes_read, rows)
        finally:
            self.rejects.close()

    def _write(self, chunk: Sequence[Person]) -> None:
        self.rejects.flush()
        if chunk:
            self.counts.update(write_with_patience(self._db, self._list_id, chunk))


def write_with_patience(db: Db, list_id: int, people: Sequence[Person]) -> list[Outcome]:
    """write_people in a transaction, tried again while another import or a restart is in the way.

    Raises Unavailable when the database stays away.
    """
    pause = FIRST_PAUSE
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with db.transaction():
                _take_turn(db)
                return write_people(db, list_id, people)
        except (peewee.IntegrityError, *DatabaseTrouble) as error:
            if attempt == ATTEMPTS:
                raise Unavailable(
                    f"the database refused {ATTEMPTS} times ({error.args[-1]}); all rows before"
                    f" {people[0].email} are in: import the file again to complete it"
                ) from error
            if not isinstance(error, peewee.IntegrityError):
                # A lost connection is found only by using it; a new one is cheap.
                db.close()
        # At random, or two imports of one file would meet again at every row.
        time.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 (not a secret)
        pause = min(pause * 2.5, LONGEST_PAUSE)
    raise AssertionError("unreachable: the last attempt returns or raises")


def _take_turn(db: Db) -> None:
    """Let the imports of this database write one chunk at a time, each in its turn.

    Two that insert the same people in another order would otherwise be each other's deadlock over
    and over, and the slower one would starve. The lock is the row of the oldest list.
    """
    db.run("UPDATE lists SET created_at = created_at WHERE id = ?", db.value("SELECT MIN(id) FROM lists"))

"""An uploaded file becomes people on a list, or rules of suppression, however often a worker dies on the way.

A chunk of rows and how far the import has come with it are one transaction, fenced by the claim's token. Whoever
takes over goes on behind the last chunk, so nobody is counted twice and no row is left out.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from itertools import islice

from app.config import Settings
from app.db import Db
from app.errors import UsageError
from app.events import emit, warn
from app.lists.import_kinds import Piece, kind_of
from app.lists.jobs import Import, rejects_path, take_next
from app.lists.reading import CsvReader
from app.lists.rejects import Rejects
from app.lists.turn import take_turn, with_patience
from app.models.states import IMPORT_OPEN, ImportState

#: A file that no open import needs is removed when it is so old, in seconds: it may still be on its way in.
KEEP_FILE_SECONDS = 3600
#: Rows passed over between two signs of life, and the window of the rate in seconds.
ROWS_A_SIGN = 20_000
RATE_SECONDS = 5.0


class Superseded(Exception):
    """Raised when an import is not ours any more: cancelled, or taken over after we were silent."""


def work_off(db: Db, settings: Settings, stop: threading.Event) -> int:
    """Do every import that waits here, one after another, until told to stop; how many were taken up.

    One at a time: they would only take turns at writing, and keep the queue's other work waiting.
    """
    taken = 0
    _remove_files_left(db, settings)
    while not stop.is_set() and (found := take_next(db, settings, db.now_ms())):
        taken += 1
        Run(db, settings, found).go(stop)
    return taken


def _remove_files_left(db: Db, settings: Settings) -> None:
    """Uploads that broke off, and files of imports that have ended."""
    if not settings.uploads.is_dir():
        return
    needed = {str(row[0]) for row in db.rows("SELECT stored FROM imports WHERE state IN (?, ?)", *sorted(IMPORT_OPEN))}
    for path in settings.uploads.iterdir():
        try:
            if path.name not in needed and path.stat().st_mtime < time.time() - KEEP_FILE_SECONDS:
                path.unlink()
        except OSError as error:
            warn("an uploaded file cannot be removed", path=str(path), reason=str(error))


class Run:
    """One worker's share of an import."""

    def __init__(self, db: Db, settings: Settings, claimed: Import) -> None:
        self._db = db
        self._import = claimed
        self._kind = kind_of(claimed.list_id, claimed.reason)
        self._path = settings.uploads / claimed.stored
        self._lease_ms = settings.lease_seconds * 1000
        self._rejects_path = rejects_path(settings, claimed.id)
        self._rejects_size = claimed.rejects_size
        self._rows = claimed.rows_read
        self._rates = deque([(time.monotonic(), self._rows)])

    def go(self, stop: threading.Event) -> None:
        """Import until the end, or until told to stop; who comes next goes on there."""
        try:
            with self._path.open("rb") as source:
                if not self._all_of(CsvReader(source, self._import.encoding), stop):
                    self._release()
                    return
            self._end(ImportState.DONE, None)
        except Superseded:
            emit("import is in other hands, or cancelled", import_id=self._import.id)
        except UsageError as error:
            self._end(ImportState.FAILED, str(error))
        except FileNotFoundError:
            self._end(ImportState.FAILED, "the uploaded file is not there any more: import it again")
        except OSError as error:
            self._end(
                ImportState.FAILED, f"reading the file, or writing what it rejects, failed: {error.strerror or error}"
            )
        except BaseException:
            self._release_if_possible()
            raise

    def _all_of(self, reader: CsvReader, stop: threading.Event) -> bool:
        """Whether the end of the file was reached."""
        records = self._kind.records(reader)
        for number, _ in enumerate(islice(records, self._rows), 1):
            if number % ROWS_A_SIGN == 0:
                self._stay()
                if stop.is_set():
                    return False
        for piece in self._kind.pieces(records):
            if stop.is_set():
                return False
            self._write(piece, reader.bytes_read)
        if blocked := self._kind.finish(self._db, self._stay):
            self._update("blocked = blocked + ?", blocked)
        return True

    def _stay(self) -> None:
        """Say that we are still at it."""
        self._update("lease_until = ?", self._db.now_ms() + self._lease_ms)

    def _write(self, piece: Piece, bytes_read: int) -> None:
        hint = f"all rows before row {self._rows + 1} are in; it goes on there"
        has_turn, self._rejects_size = with_patience(self._db, lambda: self._in_one(piece, bytes_read), hint)
        self._rows += piece.rows
        if not has_turn:
            piece.write_again(self._db)

    def _in_one(self, piece: Piece, bytes_read: int) -> tuple[bool, int]:
        """Inside a transaction: some rows and how far the import is; the size of the rejects' file, behind whether
        there was a turn to take."""
        has_turn = take_turn(self._db)
        came = piece.write(self._db)
        self._update(
            "rows_read = rows_read + ?, bytes_read = ?, created = created + ?, updated = updated + ?, "
            "unchanged = unchanged + ?, blocked = blocked + ?, rejected = rejected + ?, rate = ?, tries = 0, "
            "lease_until = ?",
            piece.rows, bytes_read, came.created, came.updated, came.unchanged, came.blocked, len(piece.rejected),
            self._rate(self._rows + piece.rows), self._db.now_ms() + self._lease_ms,
        )  # fmt: skip
        return has_turn, self._rejected(piece) if piece.rejected else self._rejects_size

    def _rejected(self, piece: Piece) -> int:
        # Behind the fence, whose row is locked now: nobody else writes this file until we have committed.
        rejects = Rejects.continued(self._rejects_path, self._rejects_size)
        try:
            rejects.add_all(piece.rejected)
            size = rejects.size
        finally:
            rejects.close()
        self._update("rejects_size = ?", size)
        return size

    def _rate(self, rows: int) -> float | None:
        """Rows a second in the last seconds."""
        now = time.monotonic()
        self._rates.append((now, rows))
        while len(self._rates) > 2 and now - self._rates[1][0] > RATE_SECONDS:
            self._rates.popleft()
        since, before = self._rates[0]
        return round((rows - before) / (now - since), 1) if now > since else None

    def _update(self, assignments: str, *values: object) -> None:
        """Change the import's row as long as it is ours; raises Superseded."""
        mine = self._db.run(
            f"UPDATE imports SET {assignments}, updated_at = ? WHERE id = ? AND token = ? AND state = ?",
            *values, self._db.now_ms(), self._import.id, self._import.token, ImportState.RUNNING,
        )  # fmt: skip
        if mine != 1:
            raise Superseded

    def _release(self) -> None:
        self._update("state = ?, token = NULL, lease_until = 0, tries = tries - 1, rate = NULL", ImportState.WAITING)
        emit("import left to the next worker", import_id=self._import.id, rows=self._rows)

    def _release_if_possible(self) -> None:
        try:
            self._release()
        except Exception as error:  # its lease runs out all the same
            warn("an import could not be let go", import_id=self._import.id, reason=str(error))

    def _end(self, state: ImportState, error: str | None) -> None:
        now = self._db.now_ms()
        try:
            self._update(
                "state = ?, error = ?, token = NULL, finished_at = ?", state, error[:500] if error else None, now
            )
        except Superseded:
            return
        self._path.unlink(missing_ok=True)
        emit("import ended", import_id=self._import.id, state=state, rows=self._rows, reason=error)

"""The rows that could not be imported, in a file beside the state: line, reason, the row's text."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from app.lists.reading import visible


class Rejects:
    """Writes rejected rows; the file comes into being with the first of them.

    `path` is None as long as nothing was rejected.
    """

    def __init__(self, directory: Path, source: str) -> None:
        self._directory = directory
        # File names are limited to 255 bytes; a character may take four.
        self._stem = Path(source).stem.strip("-")[:50] or "stdin"
        self._own: Path | None = None
        self._file: TextIO | None = None
        self._writer: Any = None
        self.path: Path | None = None

    @classmethod
    def continued(cls, path: Path, size: int) -> Rejects:
        """Goes on in the file `path` behind its first `size` bytes; what stands there now is cut off. 0: a new file."""
        rejects = cls(path.parent, path.name)
        rejects._own = path
        # A power cut, or a person, may have taken some of it.
        size = min(size, path.stat().st_size) if path.exists() else 0
        if size:
            rejects.path = path
            os.truncate(path, size)
            rejects._open(path.open("a", encoding="utf-8", newline=""))
        return rejects

    @property
    def size(self) -> int:
        """Bytes of the file, 0 as long as there is none."""
        return os.fstat(self._file.fileno()).st_size if self._file is not None else 0

    def add(self, line: int, reason: str, raw: str) -> None:
        if self._file is None:
            self._open(self._create())
            self._writer.writerow(["line", "reason", "row"])
        self._writer.writerow([line, visible(reason), visible(raw.rstrip("\r\n"))])

    def add_all(self, rows: Iterable[tuple[int, str, str]]) -> None:
        """Write rows (line, reason, text); readers of the file see them at once."""
        for row in rows:
            self.add(*row)
        self.flush()

    def flush(self) -> None:
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _open(self, file: TextIO) -> None:
        self._file = file
        self._writer = csv.writer(file, lineterminator="\n")

    def _create(self) -> TextIO:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._own:
            self.path = self._own
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            return os.fdopen(handle, "w", encoding="utf-8", newline="")
        when = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        number = 1
        while True:
            suffix = "" if number == 1 else f"-{number}"
            self.path = self._directory / f"{self._stem}-{when}{suffix}.csv"
            try:
                # Two imports in one second each get a file of their own; addresses are private.
                handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            except FileExistsError:
                number += 1
                continue
            return os.fdopen(handle, "w", encoding="utf-8", newline="")

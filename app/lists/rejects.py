"""The rows that could not be imported, in a file beside the state: line, reason, the row's text."""

from __future__ import annotations

import csv
import os
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
        self._file: TextIO | None = None
        self._writer: Any = None
        self.path: Path | None = None

    def add(self, line: int, reason: str, raw: str) -> None:
        if self._writer is None:
            self._file = self._create()
            self._writer = csv.writer(self._file, lineterminator="\n")
            self._writer.writerow(["line", "reason", "row"])
        self._writer.writerow([line, visible(reason), visible(raw.rstrip("\r\n"))])

    def flush(self) -> None:
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _create(self) -> TextIO:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
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

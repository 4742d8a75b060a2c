"""What commands share that read a CSV: the file or a pipe, a bar while it is read, what was rejected."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from app.errors import UsageError
from app.lists.importing import Progress as Report


@contextmanager
def opened(file: str) -> Iterator[tuple[BinaryIO, int | None]]:
    """The file to read and its size, None when it has none (a pipe)."""
    if file == "-":
        if sys.stdin is None:
            raise UsageError("cannot read standard input: it is closed")
        yield sys.stdin.buffer, None
        return
    try:
        source = Path(file).open("rb")  # noqa: SIM115 (closed below; this `try` is about opening only)
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from error
    with source:
        yield source, os.fstat(source.fileno()).st_size or None


@contextmanager
def progress_bar(size: int | None) -> Iterator[Report]:
    """A bar on stderr for people; nothing at all when stderr is no terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _bytes, _rows: None
        return
    columns = (BarColumn(), DownloadColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("import", total=size, rate="")

        def report(done: int, rows: int) -> None:
            rate = rows / max(bar.tasks[0].elapsed or 0, 0.001)
            bar.update(task, completed=done, rate=f"{rows:,} rows, {rate:,.0f}/s")

        yield report


def say_rejected(count: int, rejects_file: str | None) -> None:
    """Tell on stderr where the rows are that were left out, if any were."""
    if count:
        rows = "1 row was" if count == 1 else f"{count} rows were"
        print(f"{rows} rejected; line, reason and text: {rejects_file}", file=sys.stderr)

"""The rendered files in a home: written whole or not at all, and the marks of what a person stopped."""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.config import ROOT, Settings
from app.errors import Unavailable, UsageError
from app.scaling.redis_server import find_redis_server
from app.scaling.render import TEMPLATES, Machine, Renderer
from app.scaling.table import SLOT_NAME, load_table

LOCK_PATIENCE = 60.0


@dataclass(frozen=True)
class Changes:
    """Which files of a home were written and which were removed, by their path below it."""

    written: tuple[str, ...]
    removed: tuple[str, ...]


def this_machine(settings: Settings, root: Path = ROOT) -> Machine:
    """The running Python and this user; raises Unavailable when a Redis of our own is needed and missing."""
    return Machine(
        python=Path(sys.executable),
        root=root,
        redis_server=find_redis_server() if settings.redis_is_embedded else None,
        is_root=os.getuid() == 0,
    )


def render_home(settings: Settings, root: Path = ROOT) -> Changes:
    """Read the table, render it and bring the home's files up to date."""
    table = load_table(root / "supervisor" / "queues.toml")
    renderer = Renderer(_templates(root), settings, this_machine(settings, root))
    return write_files(settings.home, renderer.all(table, marked_stopped(settings)))


def write_files(home: Path, files: Mapping[str, str]) -> Changes:
    """Write what differs, each file at once, and remove programs that are no longer rendered."""
    written = [name for name, text in files.items() if _write(home / name, text)]
    removed = [
        f"conf.d/{path.name}"
        for path in sorted((home / "conf.d").glob("*.conf"))
        # The slots of a burst or a boost are not in the table; who made them removes them.
        if f"conf.d/{path.name}" not in files and not SLOT_NAME.fullmatch(path.stem)
    ]
    for name in removed:
        (home / name).unlink()
    return Changes(tuple(written), tuple(removed))


def marked_stopped(settings: Settings) -> frozenset[str]:
    """The groups that a person stopped by name: they stay stopped until a person starts them."""
    return frozenset(path.name for path in _marks(settings).glob("*"))


def mark_stopped(settings: Settings, group: str) -> None:
    _marks(settings).mkdir(exist_ok=True)
    (_marks(settings) / group).touch()


def unmark_stopped(settings: Settings, group: str) -> None:
    (_marks(settings) / group).unlink(missing_ok=True)


@contextmanager
def configuration_lock(settings: Settings) -> Iterator[None]:
    """One process at a time renders, starts supervisord, rereads or updates; the others wait a minute."""
    with (settings.run / "supervisor.lock").open("w") as file:
        deadline = time.monotonic() + LOCK_PATIENCE
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Unavailable("another command is changing this home's supervisord") from None
                time.sleep(0.05)
        yield


def _templates(root: Path) -> dict[str, str]:
    try:
        return {name: (root / "supervisor" / f"{name}.template").read_text("utf-8") for name in TEMPLATES}
    except OSError as error:
        raise UsageError(f"a template cannot be read: {error}") from error


def _write(path: Path, text: str) -> bool:
    """supervisord may read at any moment, so the new text takes the old one's place in one step."""
    if path.is_file() and path.read_text("utf-8") == text:
        return False
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text, "utf-8")
    beside.replace(path)
    return True


def _marks(settings: Settings) -> Path:
    return settings.state / "stopped"

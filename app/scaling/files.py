"""The rendered files in a home: written whole or not at all, and the marks of what a person stopped."""

from __future__ import annotations

import fcntl
import os
import re
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
from app.scaling.table import SLOT_NAME, Table, load_table

LOCK_PATIENCE = 60.0


class Busy(Unavailable):
    """Raised when somebody else holds the configuration lock for longer than we wait."""


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


def render_home(settings: Settings, root: Path = ROOT, living: Mapping[str, int] | None = None) -> Changes:
    """Read the table, render it and bring the home's files up to date.

    `living`: groups that run now, and how many processes each has. A file that would differ in that number only
    keeps it, so that nothing has to restart; slots make up the difference.
    """
    table, renderer, stopped = table_of(settings, root), make_renderer(settings, root), marked_stopped(settings)
    files = renderer.all(table, stopped)
    for queue in table.queues:
        name, count = f"conf.d/{queue.name}.conf", (living or {}).get(queue.name, queue.processes)
        as_it_runs = renderer.worker(queue, queue.name, count, stopped=queue.name in stopped)
        if _read(settings.home / name) == as_it_runs:
            files[name] = as_it_runs
    orphans = []
    for slot in slot_names(settings):
        text = renderer.slot(table, slot, slot_is_on(settings, slot), slot in stopped)
        if text is None:
            orphans.append(f"conf.d/{slot}.conf")
            remove_slot(settings, slot)
        else:
            files[f"conf.d/{slot}.conf"] = text
    changes = write_files(settings.home, files)
    return Changes(changes.written, (*changes.removed, *orphans))


def table_of(settings: Settings, root: Path = ROOT) -> Table:
    """The table of queues and services that is in force."""
    return load_table(settings.table_of(root), settings.worker_concurrency)


def make_renderer(settings: Settings, root: Path = ROOT) -> Renderer:
    """A renderer for this machine; raises UsageError when a template cannot be read."""
    return Renderer(_templates(root), settings, this_machine(settings, root))


def slot_names(settings: Settings) -> list[str]:
    """The slots that have a file."""
    return sorted(path.stem for path in settings.conf_d.glob("*.conf") if SLOT_NAME.fullmatch(path.stem))


def slot_is_on(settings: Settings, slot: str) -> bool:
    """Whether a slot's file asks for its worker."""
    return re.search(r"^numprocs=1$", _read(_slot_file(settings, slot)), re.MULTILINE) is not None


def write_slot(settings: Settings, slot: str, text: str) -> None:
    """Write a slot's file, whole or not at all."""
    _write(_slot_file(settings, slot), text)


def remove_slot(settings: Settings, slot: str) -> None:
    """Remove a slot's file, if it is there."""
    _slot_file(settings, slot).unlink(missing_ok=True)


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
def configuration_lock(settings: Settings, patience: float = LOCK_PATIENCE) -> Iterator[None]:
    """One process at a time renders, starts supervisord, rereads or updates; the others wait so many seconds."""
    with (settings.run / "supervisor.lock").open("w") as file:
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Busy("another command is changing this home's supervisord") from None
                time.sleep(0.05)
        yield


def _templates(root: Path) -> dict[str, str]:
    try:
        return {name: (root / "supervisor" / f"{name}.template").read_text("utf-8") for name in TEMPLATES}
    except OSError as error:
        raise UsageError(f"a template cannot be read: {error}") from error


def _slot_file(settings: Settings, slot: str) -> Path:
    return settings.conf_d / f"{slot}.conf"


def _read(path: Path) -> str:
    """The text of a file; nothing when there is none, or none that can be read as text."""
    try:
        return path.read_text("utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        return ""


def _write(path: Path, text: str) -> bool:
    """supervisord may read at any moment, so the new text takes the old one's place in one step."""
    if path.is_file() and _read(path) == text:
        return False
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text, "utf-8")
    beside.replace(path)
    return True


def _marks(settings: Settings) -> Path:
    return settings.state / "stopped"

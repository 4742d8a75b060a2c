"""The log files of a home: which there are, and each with its rotated ones as one long text.

supervisord renames `PROCESS.log` to `.log.1`, that to `.log.2` and so on. Nobody else's names are opened: what is read
comes from the directory's own list, never from a caller.
"""

from __future__ import annotations

import os
import re
import stat
import zlib
from bisect import bisect_right
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

#: supervisord keeps so many rotated files beside the present one.
BACKUPS = 5
#: The first so many bytes tell a file from another one that got its inode.
HEAD = 64
_NAME = re.compile(r"([\w-][\w.-]*)\.(log|err)(?:\.([1-9]\d?))?")


@dataclass(frozen=True)
class Part:
    """One file as it was when it was looked at."""

    path: Path
    inode: int
    size: int
    mtime: float


@dataclass(frozen=True)
class Mark:
    """A place in a file, which is found again wherever the file was moved to. `head`: of its first bytes."""

    inode: int
    head: int
    offset: int


#: Head and offset of a file's beginning.
START = (0, 0)


@dataclass(frozen=True)
class Stream:
    """What a process writes: `kind` log (stdout) or err (stderr). `parts`: its files, the oldest first."""

    process: str
    kind: str
    parts: tuple[Part, ...]

    @property
    def key(self) -> str:
        return f"{self.process}.{self.kind}"

    @property
    def mtime(self) -> float:
        """When it was last written."""
        return self.parts[-1].mtime


def streams(directory: Path, kinds: Collection[str] = ("log", "err")) -> list[Stream]:
    """Every stream of a directory as it is now, by name; symbolic links and whatever else lies there left out."""
    found: dict[tuple[str, str], dict[int, Part]] = {}
    # The lowest numbers first: a file that is renamed meanwhile is seen twice, but never missed.
    for number, process, kind, entry in sorted(_listed(directory, kinds), key=lambda one: one[0]):
        try:
            seen = entry.stat(follow_symlinks=False)
        except OSError:
            continue  # renamed or removed meanwhile
        mine = found.setdefault((process, kind), {})
        if stat.S_ISREG(seen.st_mode) and all(part.inode != seen.st_ino for part in mine.values()):
            mine[number] = Part(Path(entry.path), seen.st_ino, seen.st_size, seen.st_mtime)
    return [
        Stream(process, kind, tuple(parts[number] for number in sorted(parts, reverse=True)))
        for (process, kind), parts in sorted(found.items())
        if parts
    ]


def group_pattern(name: str) -> re.Pattern[str]:
    """What the processes of a queue with its bursts, of a campaign's boosts or of a service are called."""
    return re.compile(re.escape(name) + r"(-burst-\d+|-\d+)?(_\d{2,})?")


def _listed(directory: Path, kinds: Collection[str]) -> list[tuple[int, str, str, os.DirEntry[str]]]:
    try:
        with os.scandir(directory) as entries:
            named = [(_NAME.fullmatch(entry.name), entry) for entry in entries]
    except OSError:
        return []  # nothing has run yet
    found = [(int(name[3] or 0), name[1], name[2], entry) for name, entry in named if name]
    return [one for one in found if one[0] <= BACKUPS and one[2] in kinds]


@dataclass
class Meter:
    """How many bytes have been read."""

    read: int = 0


@dataclass
class Text:
    """A stream's files as one text, read by offsets from its oldest byte on; what was written since is not in it.

    To be closed, as a context.
    """

    stream: Stream
    meter: Meter = field(default_factory=Meter)
    _files: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._begins: list[int] = []
        end = 0
        for part in self.stream.parts:
            self._begins.append(end)
            end += part.size
        self.size = end

    def __enter__(self) -> Text:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            os.close(file)
        self._files.clear()

    def read(self, begin: int, end: int) -> bytes:
        """The bytes from `begin` to before `end`; of a file that is gone meanwhile nothing."""
        found = []
        for part, first in zip(self.stream.parts, self._begins, strict=True):
            low, high = max(begin, first), min(end, first + part.size)
            if low < high:
                found.append(self._read_part(part, low - first, high - low))
        data = b"".join(found)
        self.meter.read += len(data)
        return data

    def mark(self, at: int) -> Mark:
        """Where an offset lies, for another time."""
        number = self._number(at)
        part, offset = self.stream.parts[number], at - self._begins[number]
        return Mark(part.inode, self._head(part, offset), offset)

    def find(self, mark: Mark) -> int | None:
        """The offset of a mark; None when its file is gone, or was emptied and begun anew."""
        for part, first in zip(self.stream.parts, self._begins, strict=True):
            if part.inode == mark.inode and mark.offset <= part.size and self._head(part, mark.offset) == mark.head:
                return first + mark.offset
        return None

    @property
    def last_begin(self) -> int:
        """Where the present file begins."""
        return self._begins[-1]

    def mtime_at(self, at: int) -> float:
        """When the file that holds an offset was last written."""
        return self.stream.parts[self._number(at)].mtime

    def _number(self, at: int) -> int:
        """Which part holds an offset."""
        return bisect_right(self._begins, at) - 1

    def _head(self, part: Part, offset: int) -> int:
        """Of the bytes before an offset, which never change."""
        return zlib.crc32(self._read_part(part, 0, min(HEAD, offset)))

    def _read_part(self, part: Part, offset: int, count: int) -> bytes:
        file = self._files.get(part.inode) or self._open(part)
        if file is None:
            return b""
        self._files[part.inode] = file
        return os.pread(file, count, offset)

    def _open(self, part: Part) -> int | None:
        """Its file, which may have been renamed since it was looked at."""
        name = part.path.name.removesuffix(part.path.suffix) if part.path.suffix[1:].isdigit() else part.path.name
        for path in (part.path, *(part.path.with_name(f"{name}.{n}") for n in range(1, BACKUPS + 1))):
            try:
                file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError:
                continue
            if os.fstat(file).st_ino == part.inode:
                return file
            os.close(file)
        return None

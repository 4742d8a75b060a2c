"""A dated archive of a home's configuration: what is in it, writing it, and reading one that nobody vouches for.

A gzipped tar whose first member is `manifest.json`: format, version, date, and for each other member its size, mode and
SHA-256. Names are ours alone: `root/` is the project, `home/` the home, `table.toml` the file that QUEUES_FILE names.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import stat
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from app.config import Settings
from app.errors import NotFound, Refused

FORMAT, VERSION = "mailcrew-backup", 1
MANIFEST = "manifest.json"
TABLE = "table.toml"
#: Far above any real configuration; a bomb is refused when it gets there, not after it has filled the memory.
LARGEST, LARGEST_FILE, MOST_FILES = 64 * 1024 * 1024, 8 * 1024 * 1024, 5_000

NAMES = re.compile(
    r"root/\.env|root/supervisor/(queues\.toml|[a-z][a-z0-9_.-]*\.template)|table\.toml|home/\.env"
    r"|home/(supervisord|redis)\.conf|home/conf\.d/[A-Za-z0-9_-]+\.conf"
    r"|home/state/(stopped/[A-Za-z0-9_-]+|scale/[A-Za-z0-9_-]+\.json|[a-z][a-z0-9_.-]*(secret|password|key|token)[a-z0-9_.-]*)"
)


@dataclass(frozen=True)
class Member:
    """One file; `mode` is its permission bits."""

    data: bytes
    mode: int


@dataclass(frozen=True)
class Archive:
    """What an archive held; `manifest` without the list of files."""

    manifest: Mapping[str, Any]
    files: Mapping[str, Member]


def collect(settings: Settings, root: Path) -> dict[str, Member]:
    """The configuration as it stands, by name; raises Refused when a file cannot be read."""
    places = [(root / ".env", "root/.env"), (settings.home / ".env", "home/.env")]
    places += [(path, f"root/supervisor/{path.name}") for path in sorted((root / "supervisor").glob("*"))]
    if settings.queues_file:
        places.append((settings.queues_file, TABLE))
    home = settings.home
    inside = [home / "supervisord.conf", home / "redis.conf", *sorted((home / "conf.d").glob("*.conf"))]
    inside += sorted(settings.state.glob("*")) + sorted((settings.state / "stopped").glob("*"))
    inside += sorted((settings.state / "scale").glob("*"))
    places += [(path, f"home/{path.relative_to(home)}") for path in inside]
    found = {}
    for path, name in places:
        if not NAMES.fullmatch(name) or not path.is_file():
            continue
        try:
            found[name] = Member(path.read_bytes(), stat.S_IMODE(path.stat().st_mode))
        except OSError as error:
            raise Refused(f"{path} cannot be read ({error.strerror}); run this as the owner of {home}") from error
    return found


def write(path: Path, files: Mapping[str, Member], about: Mapping[str, Any]) -> None:
    """Write an archive, mode 0600, whole or not at all; raises FileExistsError rather than replace one."""
    listed = {
        name: {"size": len(m.data), "mode": f"{m.mode:04o}", "sha256": hashlib.sha256(m.data).hexdigest()}
        for name, m in files.items()
    }
    manifest = {"format": FORMAT, "version": VERSION, **about, "files": listed}
    everything = {MANIFEST: Member(json.dumps(manifest, indent=2, sort_keys=True).encode(), 0o600), **files}
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
            with tarfile.open(fileobj=file, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
                for name, member in everything.items():
                    info = tarfile.TarInfo(name)
                    info.size, info.mode = len(member.data), member.mode
                    tar.addfile(info, io.BytesIO(member.data))
            file.flush()
            os.fsync(file.fileno())
        # Unlike a rename, a link never replaces what is there.
        path.hardlink_to(beside)
    finally:
        beside.unlink(missing_ok=True)


def read(path: Path) -> Archive:
    """Check everything about an archive and give its files; raises NotFound, or Refused with the reason."""
    try:
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb")
    except OSError as error:
        raise NotFound(f"{path} cannot be read: {error.strerror}") from error
    with file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise Refused(f"{path} is not a file")
        try:
            members = _members(file)
        except Refused as reason:
            raise Refused(f"{path} is refused: {reason}") from None
        except EOFError:
            raise Refused(f"{path} is refused: it is cut short") from None
        except (OSError, zlib.error, tarfile.TarError, ValueError, OverflowError) as error:
            raise Refused(f"{path} is refused: it is not a whole tar.gz ({error})") from error
    try:
        return _checked(members)
    except Refused as reason:
        raise Refused(f"{path} is refused: {reason}") from None


class _Limited(io.RawIOBase):
    """What comes out of a gzip, and no more of it than LARGEST bytes: headers count as well."""

    def __init__(self, source: gzip.GzipFile) -> None:
        self._source, self._left = source, LARGEST

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._source.read(min(len(buffer), 1 << 16))
        self._left -= len(data)
        if self._left < 0:
            raise Refused(f"it unpacks to more than {LARGEST // 1024 // 1024} MB")
        buffer[: len(data)] = data
        return len(data)


def _members(file: IO[bytes]) -> dict[str, Member]:
    found: dict[str, Member] = {}
    with gzip.GzipFile(fileobj=file) as unpacked:
        limited = io.BufferedReader(_Limited(unpacked))
        with tarfile.open(fileobj=limited, mode="r|") as tar:
            for info in tar:
                if len(found) >= MOST_FILES:
                    raise Refused(f"it holds more than {MOST_FILES:,} files")
                if not info.isreg() or info.issparse():
                    raise Refused(f"{info.name!r} is no plain file")
                if info.name != MANIFEST and not NAMES.fullmatch(info.name):
                    raise Refused(f"{info.name!r} is no name that a backup has")
                if info.name in found:
                    raise Refused(f"{info.name!r} is in it twice")
                if info.size > LARGEST_FILE:
                    raise Refused(f"{info.name!r} has {info.size:,} bytes; at most {LARGEST_FILE:,} are allowed")
                data = tar.extractfile(info)
                content = data.read() if data else b""
                if len(content) != info.size:
                    raise EOFError
                found[info.name] = Member(content, info.mode & 0o777)
        # To the end, for there stands the checksum of the whole.
        while limited.read(1 << 16):
            pass
    return found


def _checked(members: dict[str, Member]) -> Archive:
    if MANIFEST not in members:
        raise Refused(f"it has no {MANIFEST}: not made by bin/supervisor-manager backup")
    try:
        manifest = json.loads(members.pop(MANIFEST).data)
        listed, version = manifest.pop("files"), manifest["version"]
        sums = {name: (int(entry["size"]), str(entry["sha256"])) for name, entry in listed.items()}
        ours = manifest["format"] == FORMAT
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Refused(f"its {MANIFEST} is not one of ours ({type(error).__name__}: {error})") from None
    if not ours or type(version) is not int or version < 1:
        raise Refused(f"its {MANIFEST} is not one of ours")
    if version > VERSION:
        raise Refused(f"it is of version {version}, and this Mailcrew knows up to {VERSION}")
    if missing := sorted(sums.keys() - members.keys()):
        raise Refused(f"{missing[0]!r} is listed in its manifest and missing")
    if strange := sorted(members.keys() - sums.keys()):
        raise Refused(f"{strange[0]!r} is not listed in its manifest")
    for name, member in members.items():
        if (len(member.data), hashlib.sha256(member.data).hexdigest()) != sums[name]:
            raise Refused(f"the checksum of {name!r} is wrong")
    return Archive(manifest, members)

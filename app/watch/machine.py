"""What is wrong with the machine under a home: disks, permissions, limits, ports."""

from __future__ import annotations

import os
import re
import resource
import socket
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from app.config import Settings
from app.scaling.alerts import Alert, Kind, Severity
from app.scaling.declared import Declared
from app.scaling.processes import processes_of
from app.scaling.table import Table

#: Free space under which a disk counts as nearly full: bytes and files.
MIN_FREE_MB = 1024
MIN_FREE_FILES = 10_000
#: Files of state/ that would let a reader in; the directory is closed, and they are closed in it.
SECRET = re.compile("secret|password|key|token")
#: supervisord holds two pipes, a socket's worth of spare and two logs for each process.
FILES_A_PROCESS = 6
OTHER_FILES = 200
#: Threads of a worker beyond two for each of its own (docs/architecture.md).
OTHER_THREADS = 8


def disk_alerts(settings: Settings, min_free_mb: int = MIN_FREE_MB) -> list[Alert]:
    """The disks of logs, journals, Redis's data and an SQLite database."""
    found, seen = [], set[int]()
    places = {"logs": settings.logs, "journals": settings.journals, "home": settings.home}
    if settings.redis_is_embedded:
        places["redis"] = settings.home / "redis"
    if settings.database_url.startswith("sqlite:///"):
        places["database"] = Path(settings.database_url.removeprefix("sqlite:///")).parent
    for name, path in places.items():
        try:
            device, free = path.stat().st_dev, os.statvfs(path)
        except OSError:
            continue  # not made yet; what cannot be reached is told elsewhere
        if device in seen:
            continue
        seen.add(device)
        megabytes = free.f_bavail * free.f_frsize // 1_000_000
        if megabytes < min_free_mb:
            what = f"the disk of {path} has {megabytes:,} MB left (alert below {min_free_mb:,})"
            found.append(_full("disk", name, path, what, "make room; docs/operations.md says where", megabytes))
        if free.f_files and free.f_favail < MIN_FREE_FILES:
            what = f"the disk of {path} has room for {free.f_favail:,} files only"
            found.append(_full("inodes", name, path, what, "remove small files you do not need", free.f_favail))
    return found


def _full(kind: Kind, name: str, path: Path, what: str, remedy: str, left: int) -> Alert:
    values: dict[str, str | int] = {"path": str(path), "n": left}
    return Alert(f"{kind}:{name}", "disk", what, remedy, kind, Severity.CRITICAL, values)


def permission_alerts(settings: Settings) -> list[Alert]:
    """Secrets and journals closed to others, logs ours and not to be written by others."""
    found = [*_closed(settings), *_ours(settings)]
    return [replace(one, kind="permissions", values={"what": one.what}) for one in found]


def _closed(settings: Settings) -> Iterator[Alert]:
    for path in (settings.state, settings.journals):
        mode = _mode(path)
        if mode is not None and mode & 0o077:
            yield Alert(f"mode:{path}", "permissions", f"{path} is open to others ({mode:04o})", f"chmod 700 {path}")
    secrets = [path for path in sorted(settings.state.glob("*")) if SECRET.search(path.name.lower()) and path.is_file()]
    for path in (*secrets, settings.home / ".env"):
        mode = _mode(path)
        if mode is not None and mode & 0o077:
            yield Alert(f"mode:{path}", "permissions", f"{path} is open to others ({mode:04o})", f"chmod 600 {path}")


def _ours(settings: Settings) -> Iterator[Alert]:
    for path in (settings.home, settings.logs, settings.state, settings.run):
        mode = _mode(path)
        if mode is None:
            continue
        if mode & 0o002:
            yield Alert(f"mode:{path}", "permissions", f"anybody may write in {path} ({mode:04o})", f"chmod o-w {path}")
        if not os.access(path, os.W_OK | os.X_OK):
            remedy = f"run this as the owner of {path}, or chown -R it"
            yield Alert(f"owner:{path}", "permissions", f"we may not write in {path}", remedy)
    # What a command once wrote as root, the workers of an ordinary user cannot write any more.
    owner = settings.home.stat().st_uid if settings.home.exists() else os.getuid()
    if owner:
        strange = (
            [p for p in sorted(settings.logs.glob("*")) if p.lstat().st_uid != owner] if settings.logs.is_dir() else []
        )
        if strange:
            more = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
            what = f"{strange[0]}{more} does not belong to the owner of {settings.home}"
            yield Alert("owner:logs", "permissions", what, f"chown -R --reference={settings.home} {settings.logs}")


def limit_alerts(table: Table, sums: Declared) -> list[Alert]:
    """Open files and processes of this user, against what the table may start."""
    found = []
    files = FILES_A_PROCESS * sums.max_processes + OTHER_FILES
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < files:
        what = f"{hard} open files are allowed, and {sums.max_processes} processes may need {files}"
        found.append(Alert("limit:files", "limits", what, f"raise it: ulimit -n {files}, or LimitNOFILE"))
    threads = sum(max(q.max, q.processes) * (2 * q.threads + OTHER_THREADS) for q in table.queues) + OTHER_FILES
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if os.getuid() != 0 and soft != resource.RLIM_INFINITY and soft < threads:
        what = f"{soft} threads are allowed, and the workers may need {threads}"
        found.append(Alert("limit:processes", "limits", what, f"raise it: ulimit -u {threads}, or LimitNPROC"))
    return found


def port_alerts(settings: Settings) -> list[Alert]:
    """The address of the web service: free, or held by a process of this home."""
    host, port = settings.http_bind
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
        return []
    except OSError as error:
        if holder_is_ours(settings.home, port):
            return []
        what = f"HTTP_BIND={host}:{port} cannot be used ({error.strerror or error})"
        return [Alert("port:http", "ports", what, "give this home another HTTP_BIND, or stop who has it")]


def holder_is_ours(home: Path, port: int) -> bool:
    """Whether a process of this home listens on a TCP port (proc(5), /proc/net/tcp)."""
    wanted = set()
    for table in ("tcp", "tcp6"):
        try:
            rows = (Path("/proc/net") / table).read_text().splitlines()[1:]
        except OSError:
            continue
        fields = [row.split() for row in rows]
        # 0A: it listens.
        wanted |= {f"socket:[{f[9]}]" for f in fields if f[3] == "0A" and int(f[1].rpartition(":")[2], 16) == port}
    for process in processes_of(home):
        try:
            if any(str(one.readlink()) in wanted for one in Path(f"/proc/{process.pid}/fd").iterdir()):
                return True
        except OSError:
            continue  # it ended meanwhile
    return False


def _mode(path: Path) -> int | None:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return None

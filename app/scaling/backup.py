"""Backups of a home's configuration, and the way back.

Back:  read and check the archive → try it in a place of its own: settings, table, rendering, a real supervisord →
       back up what is there now → replace file by file → render. Nothing is changed before the trial has passed, and
       nothing that runs is touched: `bin/supervisor-manager update` applies it.
"""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote

from app.config import TABLE as SETTINGS
from app.config import Settings, make_home, read_settings
from app.errors import MailcrewError, NotFound, Refused, Unavailable
from app.scaling import archive
from app.scaling.archive import Archive, Member
from app.scaling.files import Changes, configuration_lock, make_renderer, render_home, table_of, write_files
from app.scaling.groups import connected, living
from app.scaling.render import SUPERVISORD

BEFORE = "-before-restore"
#: Marks and words that mean something by being there: what the archive lacks is taken away.
MIRRORED = ("root/.env", "home/.env", "home/state/stopped/", "home/state/scale/")
#: Made again from the table and the templates, for the paths of this machine.
RENDERED = ("home/supervisord.conf", "home/redis.conf", "home/conf.d/")
TRIAL_SECONDS = 30.0


@dataclass(frozen=True)
class Restored:
    """What a restore did, by path; `before`: the archive of what was there, None when nothing differed."""

    before: Path | None
    written: tuple[Path, ...]
    removed: tuple[Path, ...]


def backups(settings: Settings) -> Path:
    """Where archives are kept when nobody says otherwise."""
    return settings.state / "backups"


def back_up(settings: Settings, root: Path, to: Path | None = None, suffix: str = "") -> Path:
    """Write an archive of the configuration as it stands; its path."""
    directory = to or backups(settings)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(f"{directory} is no directory to write in: {error.strerror}") from error
    files = archive.collect(settings, root)
    about = {"created": datetime.now(UTC).isoformat(timespec="seconds"), "host": platform.node(),
             "home": str(settings.home), "root": str(root),
             "queues_file": str(settings.queues_file) if settings.queues_file else None}  # fmt: skip
    try:
        path = _free(directory, f"{suffix}.tar.gz")
        archive.write(path, files, about)
        _give(path, settings.home)
        if to is None:
            _give(directory, settings.home)
    except OSError as error:
        raise Refused(f"no archive could be written in {directory}: {error.strerror or error}") from error
    return path


def back_up_database(settings: Settings, archive_path: Path) -> Path:
    """A whole copy of an SQLite database beside an archive, made while everything runs; its path."""
    scheme, _, rest = settings.database_url.partition("://")
    if scheme != "sqlite":
        raise Refused(
            "--database copies SQLite only; MySQL and MariaDB have a tool of their own:"
            " mysqldump --single-transaction NAME | gzip > FILE"
        )
    source = Path(unquote(rest.removeprefix("/")))
    if not source.is_file():
        raise NotFound(f"there is no database {source} yet; bin/mailcrew db migrate makes it")
    target = archive_path.with_name(archive_path.name.removesuffix(".tar.gz") + ".db")
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        os.close(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
        there, here = sqlite3.connect(source), sqlite3.connect(beside)
        try:
            # In pieces: a writer that comes in between need not wait for the whole copy.
            there.backup(here, pages=2000, sleep=0.01)
            said = here.execute("PRAGMA integrity_check").fetchone()[0]
        finally:
            here.close()
            there.close()
        if said != "ok":
            raise Refused(f"the copy of {source} is damaged: {said}")
        beside.replace(target)
        _give(target, settings.home)
    except (OSError, sqlite3.Error) as error:
        raise Refused(f"{source} could not be copied to {target}: {error}") from error
    finally:
        beside.unlink(missing_ok=True)
    return target


def newest(settings: Settings) -> Path:
    """The archive that `restore` takes without FILE; raises NotFound."""
    found = [p for p in sorted(backups(settings).glob("mailcrew-*.tar.gz")) if BEFORE not in p.name]
    if not found:
        raise NotFound(f"there is no backup in {backups(settings)}; bin/supervisor-manager restore FILE takes another")
    return found[-1]


def restore(settings: Settings, root: Path, path: Path, environ: Mapping[str, str]) -> Restored:
    """Bring the configuration back from an archive; raises Refused with everything as it was."""
    found = archive.read(path)
    try_out(found, environ, path)
    with configuration_lock(settings):
        present = archive.collect(settings, root)
        wanted = {name: member for name, member in found.files.items() if not name.startswith(RENDERED)}
        changed = {name: member for name, member in wanted.items() if present.get(name) != member}
        gone = [name for name in present if name.startswith(MIRRORED) and name not in wanted]
        targets = {name: _target(settings, root, name) for name in (*changed, *gone)}
        _refuse_unwritable(targets)
        before = back_up(settings, root, suffix=BEFORE) if targets else None
        _replace(targets, changed, present, settings.home)
        rendered = _render_again(root, environ, targets, present)
    return Restored(
        before,
        tuple(targets[name] for name in changed) + tuple(settings.home / name for name in rendered.written),
        tuple(targets[name] for name in gone) + tuple(settings.home / name for name in rendered.removed),
    )


def try_out(found: Archive, environ: Mapping[str, str], path: Path) -> None:
    """Load, render and give to a supervisord of its own what an archive holds; raises Refused."""
    with tempfile.TemporaryDirectory(prefix="mc-trial-") as directory:
        home, root = Path(directory) / "home", Path(directory) / "root"
        for name, member in found.files.items():
            if name.startswith(RENDERED):
                continue
            place = Path(directory) / name
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            place.write_bytes(member.data)
        try:
            settings = _trial_settings(Path(directory), environ, archive.TABLE in found.files)
            make_home(settings)
            table = table_of(settings, root)
            everybody = frozenset([q.name for q in table.queues] + [s.name for s in table.services])
            # Stopped by a person, all of them: a trial must start nothing.
            files = make_renderer(settings, root).all(table, everybody)
            write_files(settings.home, files)
            written = {Path(name).stem for name in files if name.startswith("conf.d/")}
            _load(settings, root, written - {queue.name for queue in table.queues if not queue.processes})
        except MailcrewError as error:
            reason = str(error).replace(f"{root}/", "").replace(f"{home}/", "").replace(f"{directory}/", "")
            raise Refused(f"{path} is refused, and nothing was changed: {reason}") from error


def _trial_settings(directory: Path, environ: Mapping[str, str], has_table: bool) -> Settings:
    names = {setting.name for setting in SETTINGS}
    ours = {name: value for name, value in environ.items() if name in names and name != "QUEUES_FILE"}
    ours["MAILCREW_HOME"] = str(directory / "home")
    ours["QUEUES_FILE"] = str(directory / archive.TABLE if has_table else directory / "root/supervisor/queues.toml")
    return read_settings(ours, directory / "root")


def _load(settings: Settings, root: Path, groups: set[str]) -> None:
    """Have a real supervisord read it; none of its programs starts."""
    config = settings.home / SUPERVISORD
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SUPERVISOR_")}
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "supervisor.supervisord", "-n", "-c", str(config)],
        cwd=root, env={**environ, "MAILCREW_HOME": str(settings.home)},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        with connected(settings) as client:
            deadline = time.monotonic() + TRIAL_SECONDS
            while process.poll() is None and client.state() != "RUNNING":
                if time.monotonic() > deadline:
                    raise Unavailable(f"supervisord did not read it within {TRIAL_SECONDS:.0f} s")
                time.sleep(0.1)
            if process.poll() is None:
                known = {one.group for one in client.configured()}
                if missing := groups - known:
                    raise Refused(f"supervisord does not see {', '.join(sorted(missing))} in its files")
                return
        said = process.communicate(timeout=10)[0].strip().splitlines()
        raise Refused(f"supervisord does not accept it: {said[0] if said else f'exit {process.returncode}'}")
    finally:
        process.terminate()
        try:
            process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        if settings.sockets != settings.run:
            shutil.rmtree(settings.sockets, ignore_errors=True)


def _target(settings: Settings, root: Path, name: str) -> Path:
    if name == archive.TABLE:
        if settings.queues_file is None:
            raise Refused(
                "the archive was made with QUEUES_FILE, which is not set here: set it to where the table shall stand,"
                " then restore again"
            )
        return settings.queues_file
    top, _, rest = name.partition("/")
    return (root if top == "root" else settings.home) / rest


def _refuse_unwritable(targets: Mapping[str, Path]) -> None:
    for path in targets.values():
        there = next(parent for parent in path.parents if parent.exists())
        if not os.access(there, os.W_OK | os.X_OK):
            raise Refused(f"{path} cannot be written by this user; nothing was changed")


def _replace(
    targets: Mapping[str, Path], changed: Mapping[str, Member], present: Mapping[str, Member], home: Path
) -> None:
    """Each file in one step; when one of them fails, those before it get their old text back."""
    done: list[str] = []
    for name, path in targets.items():
        try:
            _put(path, changed.get(name), home)
        except OSError as error:
            for former in done:
                _put(targets[former], present.get(former), home)
            raise Refused(f"{path} could not be written ({error.strerror}); everything is as it was") from error
        done.append(name)


def _render_again(
    root: Path, environ: Mapping[str, str], targets: Mapping[str, Path], present: Mapping[str, Member]
) -> Changes:
    settings = read_settings(environ, root)
    try:
        with connected(settings) as client:
            runs = client.state() == "RUNNING"
            return render_home(settings, root, living(client) if runs else None)
    except MailcrewError as error:
        for name, path in targets.items():
            _put(path, present.get(name), settings.home)
        raise Refused(f"rendering failed ({error}); table, templates and settings are as they were") from error


def _put(path: Path, member: Member | None, home: Path) -> None:
    if member is None:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        # A secret is closed from its first byte on, and what was open stays open for reading only.
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
            file.write(member.data)
            file.flush()
            os.fsync(file.fileno())
        beside.chmod(member.mode & 0o755)
        if path.is_relative_to(home):
            _give(beside, home)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _give(path: Path, home: Path) -> None:
    """To the home's owner: what root writes there, its workers must be able to read and to replace."""
    if os.getuid() == 0:
        there = home.stat()
        os.chown(path, there.st_uid, there.st_gid, follow_symlinks=False)


def _free(directory: Path, ending: str) -> Path:
    """A name with the date that nobody has yet."""
    stamp, count = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()), 1
    while (path := directory / f"mailcrew-{stamp}{f'.{count}' if count > 1 else ''}{ending}").exists():
        count += 1
    return path

"""`bin/supervisor-manager install`: Mailcrew as a service of this machine, or all of it below a directory."""

from __future__ import annotations

import argparse
import os
import pwd
import shlex
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from app.cli.verbs import Commands, add_verb, whole_path
from app.config import Settings, read_settings
from app.errors import Refused, Unavailable
from app.scaling.files import this_machine
from app.scaling.groups import MARGIN
from app.scaling.install import (
    DEBIAN,
    FAMILIES,
    HOME,
    OURS,
    RHEL,
    USER,
    Command,
    Facts,
    Family,
    File,
    Folder,
    Link,
    Step,
    notes,
    start_command,
    steps,
)
from app.scaling.table import FOUNDATION, load_table

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
KEPT = "var/backups/mailcrew"


def add_install(commands: Commands, root: Path) -> None:
    parser = add_verb(
        commands, "install", partial(install, root),
        "set up the service: user, directories, systemd, cron, supervisorctl", "install --dry-run",
        "Needs root. Run again it changes nothing. A file that differs from what would be written is kept with the date"
        " below /var/backups/mailcrew before it is replaced.",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="print every step with its text, change nothing")
    parser.add_argument(
        "--prefix", type=whole_path, metavar="DIR", help="all files below DIR; no packages, no user, nothing is started"
    )


def install(root: Path, args: argparse.Namespace) -> int:
    """Run the command; raises Refused before anything is changed."""
    prefix: Path | None = args.prefix
    family = _family(prefix)
    facts = _facts(root, prefix, family or DEBIAN)
    plan = steps(facts)
    if args.dry_run:
        for step in plan:
            _show(step)
    obstacles = _obstacles(facts, family)
    if args.dry_run:
        for problem in obstacles:
            print(f"note: as it is, install would refuse: {problem}")
    elif obstacles:
        raise Refused("; ".join(obstacles))
    else:
        kept = facts.top / KEPT / time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        done = [_do(step, facts.top, kept) for step in plan]
        if not any(done):
            print("nothing to change")
    for note in notes(facts):
        print(f"note: {note}")
    print(f"start it:  {start_command(facts)}")
    if not facts.foreign_programs:
        config = shlex.quote(str(facts.top / facts.family.config))
        print(f"look:      {'sudo supervisorctl' if facts.user else f'supervisorctl -c {config}'} status")
    launcher = f"sudo {OURS}" if facts.user else shlex.quote(str(facts.launcher))
    print(f"commands:  {launcher} COMMAND …, for example: lists show")
    return 0


def _family(prefix: Path | None) -> Family | None:
    path = os.environ.get("PATH", "") + ("" if prefix else f":{SYSTEM_PATH}")
    return next((family for family in FAMILIES if shutil.which(family.manager, path=path)), None)


def _facts(root: Path, prefix: Path | None, family: Family) -> Facts:
    top = prefix or Path("/")
    if family is DEBIAN and not shutil.which("apt-get", path=SYSTEM_PATH) and (top / RHEL.programs).is_dir():
        family = RHEL
    config, programs = top / family.config, top / family.programs
    found = _settings_of(top / HOME, root)
    foreign = sorted(p.name for kind in ("*.conf", "*.ini") for p in programs.glob(kind))
    return Facts(
        top=top,
        root=root,
        family=family,
        user=None if prefix else USER,
        owner=pwd.getpwuid(os.getuid()).pw_name if prefix else USER,
        user_exists=_exists(USER),
        lacks_redis=_lacks_redis(found, root),
        lacks_cron=not any(shutil.which(name, path=SYSTEM_PATH) for name in ("cron", "crond")),
        has_systemd=Path("/run/systemd/system").is_dir(),
        nologin=shutil.which("nologin", path=SYSTEM_PATH) or "/bin/false",
        present_config=config.read_text("utf-8", "replace") if config.is_file() else None,
        foreign_programs=tuple(foreign),
        has_supervisorctl=_has_supervisorctl(top, family, root),
        longest_stop=_longest_stop(found, root),
    )


def _settings_of(home: Path, root: Path) -> Settings:
    """Those of the service, not of who installs it; the defaults where its home is closed to us."""
    try:
        return read_settings({"MAILCREW_HOME": str(home)}, root)
    except OSError:
        return read_settings({"MAILCREW_HOME": "/nonexistent"}, root)


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def _lacks_redis(found: Settings, root: Path) -> bool:
    try:
        this_machine(found, root)
    except Unavailable:
        return True
    return False


def _has_supervisorctl(top: Path, family: Family, root: Path) -> bool:
    """Whether the machine has one that is not ours."""
    for directory in ("usr/bin", family.commands):
        there = top / directory / "supervisorctl"
        if there.exists() and there.resolve() != (root / ".venv/bin/supervisorctl").resolve():
            return True
    return False


def _longest_stop(found: Settings, root: Path) -> int:
    """Seconds that `bin/supervisor-manager stop` may take with the table of the service."""
    table = load_table(found.table_of(root))
    workers = [max(found.stop_grace_seconds, queue.timeout + 10) + 15 for queue in table.queues]
    above = [service.stop_wait for service in table.services if service.priority >= FOUNDATION]
    below = sum(service.stop_wait for service in table.services if service.priority < FOUNDATION)
    return max([*workers, *above]) + below + round(MARGIN) + 30


def _obstacles(facts: Facts, family: Family | None) -> list[str]:
    """Why a real installation cannot be; below a prefix there is no reason."""
    if facts.user is None:
        return []
    found = []
    if os.getuid() != 0:
        found.append("it needs root: sudo bin/supervisor-manager install; --dry-run shows what it would do")
    if family is None and (facts.lacks_redis or facts.lacks_cron):
        lacks = ["redis-server (6.2 or newer)"] * facts.lacks_redis + ["cron"] * facts.lacks_cron
        found.append(f"none of apt-get, dnf and yum is here: install {' and '.join(lacks)} yourself, then run it again")
    if closed := _closed(facts.root):
        found.append(f"the user {USER} cannot enter {closed}: move the project, for example to /opt/mailcrew")
    python = Path(sys.executable).resolve()
    if closed := _closed(python):
        found.append(
            f"the user {USER} cannot enter {closed}, where Python is ({python}): PYTHON=/usr/bin/python3 bin/setup"
        )
    return found


def _closed(path: Path) -> Path | None:
    """The first directory on the way that others may not enter."""
    ways = [*reversed(path.parents), *([path] if path.is_dir() else [])]
    return next((way for way in ways if not way.stat().st_mode & 0o001), None)


def _show(step: Step) -> None:
    match step:
        case Command():
            print(f"run:    {step}")
        case Folder():
            print(f"folder: {step.path} (mode {step.mode:04o}, owner {step.owner or 'who runs this'})")
        case Link():
            print(f"link:   {step.path} -> {step.target}")
        case File():
            if_missing = ", only if it is missing" if step.theirs else ""
            print(f"file:   {step.path} (mode {step.mode:04o}, owner {step.owner or 'who runs this'}{if_missing})")
            sys.stdout.writelines(f"  | {line}\n" for line in step.text.splitlines())


def _do(step: Step, top: Path, kept: Path) -> bool:
    """Do one step and say so; whether anything was changed."""
    match step:
        case Command():
            return _run(step)
        case Folder():
            return _folder(step)
        case Link():
            return _link(step, top, kept)
        case File():
            return _file(step, top, kept)


def _run(step: Command) -> bool:
    print(f"run: {step}", flush=True)
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(step.words, env=environ, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise Refused(f"{step} cannot be run: {error}; mend that and run install again") from error
    if done.returncode:
        raise Refused(f"{step} failed (exit {done.returncode}); mend that and run install again")
    return True


def _folder(step: Folder) -> bool:
    if step.path.is_dir():
        return False
    if step.inside_theirs:
        return _run(step.command)
    step.path.mkdir(parents=True)
    _own(step.path, step.mode, step.owner)
    print(f"made: {step.path}")
    return True


def _link(step: Link, top: Path, kept: Path) -> bool:
    if step.path.is_symlink() and step.path.readlink() == step.target:
        return False
    _keep(step.path, top, kept)
    step.path.symlink_to(step.target)
    print(f"linked: {step.path} -> {step.target}")
    return True


def _file(step: File, top: Path, kept: Path) -> bool:
    if step.path.is_symlink() or step.path.exists():
        if step.theirs or (step.path.is_file() and step.path.read_bytes() == step.text.encode()):
            return False
        _keep(step.path, top, kept)
    beside = step.path.with_name(f".{step.path.name}.{os.getpid()}")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w") as file:
        file.write(step.text)
    _own(beside, step.mode, step.owner)
    beside.replace(step.path)
    print(f"written: {step.path}")
    return True


def _keep(path: Path, top: Path, kept: Path) -> None:
    """Move what a person, or an older version, has left there to where no program looks for it."""
    if not path.is_symlink() and not path.exists():
        return
    there = kept / path.relative_to(top)
    there.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.move(path, there)
    print(f"kept: {path} differed from what install writes; it is now {there}")


def _own(path: Path, mode: int, owner: str | None) -> None:
    path.chmod(mode)
    if owner:
        shutil.chown(path, owner, owner)

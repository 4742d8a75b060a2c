"""What a machine needs to run Mailcrew as a service: the steps, from facts about the machine. Nothing here is done.

The service is our own supervisord, run by a system user under systemd (or by cron's @reboot where that is not in
charge). /etc holds only what root reads: nothing there includes a file that the service's user may write.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.scaling.install_files import (
    cron_text,
    launcher_text,
    settings_text,
    supervisorctl_text,
    unit_text,
)

USER = "mailcrew"
HOME = "var/lib/mailcrew"
OURS = "mailcrew"


@dataclass(frozen=True)
class Family:
    """How one kind of distribution calls things; paths are without the leading slash."""

    manager: str
    refresh: tuple[str, ...]
    redis: str
    cron: str
    cron_service: str
    config: str
    programs: str
    # Where sudo looks: RHEL's secure_path leaves /usr/local/bin out.
    commands: str


DEBIAN = Family(
    "apt-get", ("apt-get", "update"), "redis-server", "cron", "cron",
    "etc/supervisor/supervisord.conf", "etc/supervisor/conf.d", "usr/local/bin",
)  # fmt: skip
RHEL = Family("dnf", (), "redis", "cronie", "crond", "etc/supervisord.conf", "etc/supervisord.d", "usr/bin")
OLD_RHEL = Family("yum", (), "redis", "cronie", "crond", "etc/supervisord.conf", "etc/supervisord.d", "usr/bin")
FAMILIES = (DEBIAN, RHEL, OLD_RHEL)


@dataclass(frozen=True)
class Facts:
    """What was found on the machine; `top` is `/` or the prefix, `user` None below a prefix: nobody is added."""

    top: Path
    root: Path
    family: Family
    user: str | None
    owner: str
    user_exists: bool
    lacks_redis: bool
    lacks_cron: bool
    has_systemd: bool
    nologin: str
    # What stands in the file that plain supervisorctl reads, and whose programs stand beside ours.
    present_config: str | None
    foreign_programs: tuple[str, ...]
    has_supervisorctl: bool
    longest_stop: int

    @property
    def home(self) -> Path:
        return self.top / HOME

    @property
    def launcher(self) -> Path:
        return self.top / self.family.commands / OURS


@dataclass(frozen=True)
class Command:
    """Words to run."""

    words: tuple[str, ...]

    def __str__(self) -> str:
        return shlex.join(self.words)


@dataclass(frozen=True)
class Folder:
    """A directory; `owner` None leaves it to who makes it.

    `inside_theirs`: its parent belongs to that owner, who could have put a link there, so it is made as that user.
    """

    path: Path
    mode: int
    owner: str | None = None
    inside_theirs: bool = False

    @property
    def command(self) -> Command:
        """What makes it as its owner."""
        return Command(
            ("runuser", "-u", str(self.owner), "--", "install", "-d", "-m", f"{self.mode:04o}", str(self.path))
        )


@dataclass(frozen=True)
class File:
    """A file with this text; `theirs`: a person writes in it, so it is only made when missing."""

    path: Path
    text: str
    mode: int = 0o644
    owner: str | None = None
    theirs: bool = False


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    path: Path
    target: Path


Step = Command | Folder | File | Link


def steps(facts: Facts) -> list[Step]:
    """Everything to do, in order; what is so already is found out when it is done."""
    return [*_packages(facts), *_user(facts), *_home(facts), *_configuration(facts), *_service(facts)]


def notes(facts: Facts) -> list[str]:
    """What a person should know about this machine."""
    found = []
    if facts.foreign_programs:
        found.append(
            f"/{facts.family.config} stays as it is: another supervisord runs {', '.join(facts.foreign_programs)} here,"
            f" and plain supervisorctl speaks to that one. Ours: supervisorctl -c {facts.home}/supervisord.conf"
        )
    if not facts.has_systemd:
        found.append("systemd is not in charge here: cron's @reboot starts the stack")
    return found


def start_command(facts: Facts) -> str:
    """What starts the result by hand."""
    if facts.user is None:
        return f"{shlex.quote(str(facts.launcher))} supervisor-manager start"
    return "systemctl start mailcrew" if facts.has_systemd else f"{OURS} supervisor-manager start"


def pointed_at(text: str, socket: Path) -> str:
    """A supervisord.conf of somebody else whose [supervisorctl] speaks to our socket; all else stays."""
    line = f"serverurl=unix://{socket}"
    section = re.search(r"^\[supervisorctl\][^\n]*\n(?P<body>(?:(?!^\[).*\n?)*)", text, re.MULTILINE)
    if section is None:
        return f"{text.rstrip()}\n\n[supervisorctl]\n{line}\n"
    body, found = re.subn(r"^serverurl\s*[=:].*$", lambda _: line, section["body"], count=1, flags=re.MULTILINE)
    start, end = section.span("body")
    return text[:start] + (body if found else f"{line}\n{body}") + text[end:]


def _packages(facts: Facts) -> Iterator[Step]:
    names = [facts.family.redis] * facts.lacks_redis + [facts.family.cron] * facts.lacks_cron
    if facts.user is None or not names:
        return
    if facts.family.refresh:
        yield Command(facts.family.refresh)
    yield Command((facts.family.manager, "install", *(["--yes"] if facts.family is DEBIAN else ["-y"]), *names))


def _user(facts: Facts) -> Iterator[Step]:
    if facts.user and not facts.user_exists:
        home = ("--home-dir", str(facts.home), "--no-create-home")
        yield Command(("useradd", "--system", "--user-group", *home, "--shell", facts.nologin, facts.user))


def _home(facts: Facts) -> Iterator[Step]:
    yield Folder(facts.home, 0o750, facts.user)
    modes = {"logs": 0o750, "run": 0o750, "conf.d": 0o750, "state": 0o700, "redis": 0o700}
    for name, mode in modes.items():
        yield Folder(facts.home / name, mode, facts.user, inside_theirs=facts.user is not None)
    yield File(facts.home / ".env", settings_text(), 0o600, facts.user, theirs=True)


def _configuration(facts: Facts) -> Iterator[Step]:
    family, socket = facts.family, facts.home / "run" / "super.sock"
    yield Folder(facts.top / family.programs, 0o755)
    # For people who look here. Without .conf or .ini at its end no supervisord of root's reads it.
    yield Link(facts.top / family.programs / OURS, facts.home / "conf.d")
    if not facts.foreign_programs:
        text = supervisorctl_text(socket)
        if facts.present_config is not None and "[supervisord]" in facts.present_config:
            text = pointed_at(facts.present_config, socket)
        yield File(facts.top / family.config, text)
    yield Folder(facts.launcher.parent, 0o755)
    yield File(facts.launcher, launcher_text(facts.root, facts.home, facts.owner), 0o755)
    if not facts.has_supervisorctl:
        yield Link(facts.launcher.parent / "supervisorctl", facts.root / ".venv" / "bin" / "supervisorctl")


def _service(facts: Facts) -> Iterator[Step]:
    cron, unit = facts.top / "etc/cron.d", facts.top / "etc/systemd/system"
    yield Folder(cron, 0o755)
    yield File(cron / OURS, cron_text(facts.launcher, facts.home, facts.owner, reboot=not facts.has_systemd))
    yield Folder(unit, 0o755)
    yield File(unit / f"{OURS}.service", unit_text(facts.launcher, facts.home, facts.owner, facts.longest_stop))
    if facts.user is None:
        return
    if facts.has_systemd:
        yield Command(("systemctl", "daemon-reload"))
        yield Command(("systemctl", "enable", "--now", facts.family.cron_service))
        yield Command(("systemctl", "enable", "--now", f"{OURS}.service"))
    else:
        yield Command((str(facts.launcher), "supervisor-manager", "start"))

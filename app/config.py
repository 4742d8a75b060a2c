"""Settings: read from the environment and `.env`, checked at start, written down in one table.

The environment wins over `$MAILCREW_HOME/.env`, which wins over `.env` in the project's root.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from dotenv import dotenv_values

from app.errors import SettingError

ROOT = Path(__file__).resolve().parent.parent

# sun_path holds 108 bytes on Linux (unix(7)); the longest name we put behind the directory is 20.
LONGEST_SOCKET_DIR = 85

#: A host whose leases ran out so many seconds ago counts as gone.
HOST_GONE_SECONDS = 3600
#: It must have missed more than one renewal for a passing reason.
HOST_GONE_LEASES = 4


@dataclass(frozen=True)
class Setting:
    """One variable: how it is called, what it is when unset, and what it may be."""

    name: str
    default: str
    parse: Callable[[str], Any]
    meaning: str


def _whole(name: str, low: int, high: int, unit: str) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise SettingError(name, text, f"a whole number of {unit} from {low} to {high}")
        return value

    return parse


def _url(name: str, schemes: tuple[str, ...]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        try:
            parts = urlsplit(text)
            _ = parts.port
        except ValueError as error:
            # Without the text: it may hold a password.
            raise SettingError(name, "…", f"a URL ({error})") from None
        if text and parts.scheme not in schemes:
            raise SettingError(
                name,
                _without_password(text),
                "a URL that begins with " + " or ".join(f"{s}://" for s in schemes),
            )
        return text

    return parse


def _bind(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
        raise SettingError("HTTP_BIND", text, "HOST:PORT, for example 127.0.0.1:8025")
    return host.strip("[]"), int(port)


def _mail_address(text: str) -> str:
    local, at, domain = text.rpartition("@")
    if text and not (local and at and domain and text.isascii() and text.isprintable() and not set(" <>,") & set(text)):
        raise SettingError("ALERT_MAIL", text, "one address, for example ops@example.com")
    return text


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return url.replace(f":{parts.password}@", ":***@") if parts.password else url


def _int(name: str, default: int, low: int, high: int, unit: str, meaning: str) -> Setting:
    return Setting(name, str(default), _whole(name, low, high, unit), meaning)


TABLE: tuple[Setting, ...] = (
    Setting("MAILCREW_HOME", "", str, "directory for everything written at run time (default: ./var)"),
    Setting(
        "DATABASE_URL",
        "",
        _url("DATABASE_URL", ("sqlite", "mysql")),
        "sqlite:///path or mysql://user:pass@host:port/name (default: SQLite under MAILCREW_HOME)",
    ),
    Setting(
        "REDIS_URL",
        "",
        _url("REDIS_URL", ("redis", "rediss", "unix")),
        "redis://, rediss:// or unix:// (default: an embedded Redis under MAILCREW_HOME)",
    ),
    Setting("HTTP_BIND", "127.0.0.1:8025", _bind, "address of the console and API"),
    Setting("QUEUES_FILE", "", str, "the table of queues and services (default: supervisor/queues.toml)"),
    _int("EXPAND_BATCH_SIZE", 5000, 1, 100_000, "subscribers", "subscribers expanded per transaction"),
    _int("SEND_BATCH_SIZE", 100, 1, 1000, "recipients", "recipients leased to a worker at a time"),
    _int("LEASE_SECONDS", 30, 5, 3600, "seconds", "how long a lease lasts without being renewed"),
    # From 600: an SMTP server has given up the connections of a host that was halted for so long.
    _int("HOST_GONE_SECONDS", HOST_GONE_SECONDS, 600, 604_800, "seconds", "silence after which a host counts as gone"),
    _int("STOP_GRACE_SECONDS", 120, 1, 3600, "seconds", "how long a stopping worker may finish its task"),
    _int("SEND_MAX_ATTEMPTS", 8, 1, 100, "attempts", "tries of one recipient before a 4xx becomes final"),
    Setting("ALERT_WEBHOOK", "", _url("ALERT_WEBHOOK", ("http", "https")), "where `check` posts its alerts"),
    Setting("ALERT_MAIL", "", _mail_address, "whom `check` mails its alerts"),
    Setting(
        "ALERT_SMTP",
        "",
        _url("ALERT_SMTP", ("smtp", "smtp+starttls", "smtps")),
        "smtp://host:port that takes alerts (default: the first server of `servers list`)",
    ),
    _int("ALERT_REPEAT_MINUTES", 60, 1, 10_080, "minutes", "how long a problem that stays is not told again"),
)


@dataclass(frozen=True)
class Settings:
    """The settings of this process. Sizes are counts, times are seconds."""

    home: Path
    database_url: str
    redis_url: str
    redis_is_embedded: bool
    http_bind: tuple[str, int]
    queues_file: Path | None
    expand_batch_size: int
    send_batch_size: int
    lease_seconds: int
    host_gone_seconds: int
    stop_grace_seconds: int
    send_max_attempts: int
    alert_webhook: str
    alert_mail: str
    alert_smtp: str
    alert_repeat_minutes: int

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def state(self) -> Path:
        """Secrets and journals; mode 0700."""
        return self.home / "state"

    @property
    def journals(self) -> Path:
        return self.state / "journals"

    @property
    def conf_d(self) -> Path:
        """The rendered supervisor configuration, one file per queue or service."""
        return self.home / "conf.d"

    def table_of(self, root: Path = ROOT) -> Path:
        """The table of queues and services: QUEUES_FILE, or the one that a project's root ships."""
        return self.queues_file or root / "supervisor" / "queues.toml"

    @property
    def run(self) -> Path:
        return self.home / "run"

    @property
    def sockets(self) -> Path:
        """`run/`, or a short directory of our own when a socket's path in it would be too long."""
        if len(os.fsencode(self.run)) <= LONGEST_SOCKET_DIR:
            return self.run
        digest = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:12]
        return Path(f"/tmp/mailcrew-{os.getuid()}-{digest}")  # noqa: S108 (owner and mode are checked)


def read_settings(environ: Mapping[str, str], root: Path = ROOT) -> Settings:
    """Settings from `environ` and the `.env` files; raises SettingError on the first bad value."""
    values, home = _values(environ, root)
    parsed = {s.name: s.parse(values.get(s.name) or s.default) for s in TABLE}
    short = Settings(
        home=home,
        database_url=_database_url(parsed["DATABASE_URL"], home, root),
        redis_url=parsed["REDIS_URL"],
        redis_is_embedded=not parsed["REDIS_URL"],
        http_bind=parsed["HTTP_BIND"],
        queues_file=root / Path(parsed["QUEUES_FILE"]).expanduser() if parsed["QUEUES_FILE"] else None,
        expand_batch_size=parsed["EXPAND_BATCH_SIZE"],
        send_batch_size=parsed["SEND_BATCH_SIZE"],
        lease_seconds=parsed["LEASE_SECONDS"],
        host_gone_seconds=_host_gone(values.get("HOST_GONE_SECONDS") or "", parsed),
        stop_grace_seconds=parsed["STOP_GRACE_SECONDS"],
        send_max_attempts=parsed["SEND_MAX_ATTEMPTS"],
        alert_webhook=parsed["ALERT_WEBHOOK"],
        alert_mail=parsed["ALERT_MAIL"],
        alert_smtp=parsed["ALERT_SMTP"],
        alert_repeat_minutes=parsed["ALERT_REPEAT_MINUTES"],
    )
    if short.redis_url:
        return short
    return Settings(**{**short.__dict__, "redis_url": f"unix://{short.sockets / 'redis.sock'}"})


def _host_gone(said: str, parsed: Mapping[str, Any]) -> int:
    """HOST_GONE_SECONDS, never so short that a host could live and miss it; unset it grows with the lease."""
    least = HOST_GONE_LEASES * int(parsed["LEASE_SECONDS"])
    seconds = int(parsed["HOST_GONE_SECONDS"])
    if said and seconds < least:
        raise SettingError(
            "HOST_GONE_SECONDS", said, f"a whole number of at least {HOST_GONE_LEASES} times LEASE_SECONDS ({least})"
        )
    return max(seconds, least)


def setting_problems(environ: Mapping[str, str], root: Path = ROOT) -> list[SettingError]:
    """Every setting that is not allowed, where `read_settings` stops at the first."""
    values, _ = _values(environ, root)
    found = []
    for setting in TABLE:
        try:
            setting.parse(values.get(setting.name) or setting.default)
        except SettingError as error:
            found.append(error)
    if not found:
        try:
            read_settings(environ, root)
        except SettingError as error:
            found.append(error)  # two that do not go together
    return found


def _values(environ: Mapping[str, str], root: Path) -> tuple[dict[str, str], Path]:
    """Every variable, and the home that they name."""
    values = {**_dotenv(root / ".env"), **environ}
    home = Path(values.get("MAILCREW_HOME") or root / "var").expanduser()
    home = home if home.is_absolute() else (root / home)
    return {**_dotenv(root / ".env"), **_dotenv(home / ".env"), **environ}, home


def _database_url(url: str, home: Path, root: Path) -> str:
    """The same database for every process: a relative path would mean another file in each directory."""
    if not url:
        return f"sqlite:///{quote(str(home / 'mailcrew.db'))}"
    path = url.removeprefix("sqlite:///")
    if path != url and path and not path.startswith("/"):
        return f"sqlite:///{quote(str(root))}/{path}"
    return url


def variable(name: str) -> str | None:
    """A variable that is no setting (a server's password), looked up where the settings are."""
    return os.environ.get(name) or _files().get(name)


@cache
def _files() -> dict[str, str]:
    return {**_dotenv(ROOT / ".env"), **_dotenv(settings().home / ".env")}


@cache
def settings() -> Settings:
    """The settings of this process, read once."""
    return read_settings(os.environ)


def make_home(settings: Settings) -> None:
    """Create the directories of a home; raises SettingError when one cannot be ours."""
    try:
        for path in (settings.home, settings.logs, settings.run, settings.conf_d, settings.home / "redis"):
            path.mkdir(parents=True, exist_ok=True)
        for path in (settings.state, settings.journals, settings.sockets):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SettingError("MAILCREW_HOME", str(settings.home), f"a directory we can write ({error})") from error
    _check_sockets(settings)


def _check_sockets(settings: Settings) -> None:
    """The short directory stands in /tmp, where anybody could have made it before us."""
    found, shared = settings.sockets.lstat(), settings.sockets != settings.run
    foreign = found.st_uid != os.getuid() and (shared or os.getuid() != 0)
    if foreign or stat.S_ISLNK(found.st_mode):
        raise SettingError("MAILCREW_HOME", str(settings.home), f"{settings.sockets} belongs to someone else")
    if shared and found.st_mode & 0o077:
        settings.sockets.chmod(0o700)


def _dotenv(path: Path) -> dict[str, str]:
    return {k: v for k, v in dotenv_values(path).items() if v is not None} if path.is_file() else {}

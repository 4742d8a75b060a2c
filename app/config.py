"""Settings: read from the environment and `.env`, checked at start, written down in one table.

The environment wins over `$MAILCREW_HOME/.env`, which wins over `.env` in the project's root.
"""

from __future__ import annotations

import hashlib
import os
import socket
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dotenv import dotenv_values

from app.addresses import Networks
from app.errors import SettingError
from app.setting_values import bind, concurrency, mail_address, minutes, networks, url, whole

ROOT = Path(__file__).resolve().parent.parent

# sun_path holds 108 bytes on Linux (unix(7)); the longest name we put behind the directory is 20.
LONGEST_SOCKET_DIR = 85

#: A host whose leases ran out so many seconds ago counts as gone.
HOST_GONE_SECONDS = 3600
#: It must have missed more than one renewal for a passing reason.
HOST_GONE_LEASES = 4
#: Users that later transactions of a dispatch claim, unless DISPATCH_BATCH_SIZE says how many.
LARGEST_BATCH = 10_000


@dataclass(frozen=True)
class Setting:
    """One variable: how it is called, what it is when unset, and what it may be."""

    name: str
    default: str
    parse: Callable[[str], Any]
    meaning: str


def _int(name: str, default: int, low: int, high: int, unit: str, meaning: str) -> Setting:
    return Setting(name, str(default), whole(name, low, high, unit), meaning)


TABLE: tuple[Setting, ...] = (
    Setting("MAILCREW_HOME", "", str, "directory for everything written at run time (default: ./var)"),
    Setting(
        "DATABASE_URL",
        "",
        url("DATABASE_URL", ("sqlite", "mysql")),
        "sqlite:///path or mysql://user:pass@host:port/name (default: SQLite under MAILCREW_HOME)",
    ),
    Setting(
        "REDIS_URL",
        "",
        url("REDIS_URL", ("redis", "rediss", "unix")),
        "redis://, rediss:// or unix:// (default: an embedded Redis under MAILCREW_HOME)",
    ),
    Setting("HTTP_BIND", "127.0.0.1:8025", bind, "address of the console and API"),
    _int("TRUSTED_PROXIES", 0, 0, 5, "servers", "proxies before the console whose word about the caller counts"),
    Setting("QUEUES_FILE", "", str, "the table of queues and services (default: supervisor/queues.toml)"),
    _int("EXPAND_BATCH_SIZE", 5000, 1, 100_000, "subscribers", "subscribers expanded per transaction"),
    _int("SEND_BATCH_SIZE", 100, 1, 1000, "recipients", "recipients leased to a worker at a time"),
    _int("LEASE_SECONDS", 30, 5, 3600, "seconds", "how long a lease lasts without being renewed"),
    # From 600: an SMTP server has given up the connections of a host that was halted for so long.
    _int("HOST_GONE_SECONDS", HOST_GONE_SECONDS, 600, 604_800, "seconds", "silence after which a host counts as gone"),
    _int("STOP_GRACE_SECONDS", 120, 1, 3600, "seconds", "how long a stopping worker may finish its task"),
    _int("SEND_MAX_ATTEMPTS", 8, 1, 100, "attempts", "tries of one recipient before a 4xx becomes final"),
    Setting(
        "RETRY_MINUTES", "1,5,30,60,120,360,720,1440", minutes, "waits after the first, second … 4xx of a recipient"
    ),
    _int("BOUNCE_LIMIT", 3, 1, 100, "refusals", "permanent refusals in a row before a subscriber counts as bounced"),
    Setting(
        "ALERT_WEBHOOK", "", url("ALERT_WEBHOOK", ("http", "https")), "where supervisor-manager check posts its alerts"
    ),
    Setting("ALERT_MAIL", "", mail_address("ALERT_MAIL"), "whom supervisor-manager check mails its alerts"),
    Setting(
        "ALERT_SMTP",
        "",
        url("ALERT_SMTP", ("smtp", "smtp+starttls", "smtps")),
        "smtp://host:port that takes alerts (default: the active server added first, those in trouble last)",
    ),
    _int("ALERT_REPEAT_MINUTES", 60, 1, 10_080, "minutes", "how long a problem that stays is not told again"),
    Setting(
        "NOTICE_FROM", "", mail_address("NOTICE_FROM"), "from whom notices come (default: ALERT_MAIL or mailcrew@HOST)"
    ),
    _int("PAUSE_ERRORS", 100, 1, 1_000_000_000, "mails", "failed mails from which on a campaign may pause by itself"),
    _int("PAUSE_ERROR_PERCENT", 20, 1, 100, "percent", "failed of sent and failed from which on it does"),
    Setting("ALLOW_PRIVATE_ADDRESSES", "", networks, "where checks and webhooks may go beside the public internet"),
    _int("CHECK_CONCURRENCY", 10, 1, 100, "targets", "targets of one user that are checked at once"),
    _int("CHECK_RESULTS_DAYS", 30, 1, 3650, "days", "how long every single result of a check is kept"),
    _int("UPLOAD_MB", 500, 1, 100_000, "MB", "the largest file that may be uploaded for an import"),
    _int("DISPATCH_BATCH_SIZE", 20, 1, 5000, "users", "users claimed per transaction; in sync mode: run per call"),
    _int("DISPATCH_LOCK_TTL", 900_000, 10_000, 86_400_000, "ms", "how long a claim lasts that nobody has begun"),
    _int("DEFAULT_INTERVAL_MINUTES", 5, 1, 1440, "minutes", "between two runs of a new user's checks"),
    Setting("WORKER_CONCURRENCY", "", concurrency, "threads of a monitor worker (default: those of the table, 2)"),
    # Read by app/secrets.py alone, so that no settings that are shown somewhere hold one.
    Setting("ADMIN_PASSWORD", "", str, "the administrator's password (default: made at the first start)"),
    Setting("SECRET_KEY", "", str, "signs the console's sessions (default: made at the first start)"),
    Setting("CRON_SECRET", "", str, "opens /api/cron/dispatch; empty: closed (default: made at the first start)"),
)


@dataclass(frozen=True)
class Settings:
    """The settings of this process. Sizes are counts, times are seconds, `dispatch_lock_ttl` ms."""

    home: Path
    database_url: str
    redis_url: str
    redis_is_embedded: bool
    http_bind: tuple[str, int]
    trusted_proxies: int
    queues_file: Path | None
    expand_batch_size: int
    send_batch_size: int
    lease_seconds: int
    host_gone_seconds: int
    stop_grace_seconds: int
    send_max_attempts: int
    retry_minutes: tuple[int, ...]
    bounce_limit: int
    alert_webhook: str
    alert_mail: str
    alert_smtp: str
    alert_repeat_minutes: int
    notice_from: str
    pause_errors: int
    pause_error_percent: int
    allow_private_addresses: Networks
    check_concurrency: int
    check_results_days: int
    upload_mb: int
    dispatch_batch_size: int
    dispatch_batch_most: int
    dispatch_lock_ttl: int
    default_interval_minutes: int
    worker_concurrency: int | None

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
    def uploads(self) -> Path:
        """Files that are to be imported, until they are."""
        return self.state / "uploads"

    @property
    def rejects(self) -> Path:
        """The rows that imports refused."""
        return self.state / "rejects"

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
    fields = Settings.__dataclass_fields__
    plain = {name.lower(): value for name, value in parsed.items() if name.lower() in fields}
    said_otherwise = {
        "home": home,
        "database_url": _database_url(parsed["DATABASE_URL"], home, root),
        "redis_is_embedded": not parsed["REDIS_URL"],
        "queues_file": root / _expanded("QUEUES_FILE", parsed["QUEUES_FILE"]) if parsed["QUEUES_FILE"] else None,
        "host_gone_seconds": _host_gone(values.get("HOST_GONE_SECONDS") or "", parsed),
        "dispatch_batch_most": parsed["DISPATCH_BATCH_SIZE"] if values.get("DISPATCH_BATCH_SIZE") else LARGEST_BATCH,
        "notice_from": parsed["NOTICE_FROM"] or parsed["ALERT_MAIL"] or f"mailcrew@{socket.gethostname()}",
    }
    short = Settings(**{**plain, **said_otherwise})
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
    try:
        values, _ = _values(environ, root)
    except SettingError as error:
        return [error]  # a file, or the home itself: without it there are no values to look at
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
    home = root / _expanded("MAILCREW_HOME", values.get("MAILCREW_HOME") or "var")
    return {**_dotenv(root / ".env"), **_dotenv(home / ".env"), **environ}, home


def _database_url(url: str, home: Path, root: Path) -> str:
    """The same database for every process: a relative path would mean another file in each directory."""
    if not url:
        return f"sqlite:///{quote(str(home / 'mailcrew.db'))}"
    path = url.removeprefix("sqlite:///")
    if path != url and path and not path.startswith("/"):
        return f"sqlite:///{quote(str(root))}/{path}"
    return url


def given(settings: Settings, name: str, environ: Mapping[str, str] = os.environ, root: Path = ROOT) -> str | None:
    """What a person has set a variable to; empty counts, None when it is not set at all."""
    return {**_dotenv(root / ".env"), **_dotenv(settings.home / ".env"), **environ}.get(name)


def where_given(settings: Settings, name: str, root: Path = ROOT) -> str | None:
    """Where a person has set a variable, as it counts: "environment", "home" or "root" for a `.env`; None: nowhere."""
    places = {"environment": os.environ, "home": _dotenv(settings.home / ".env"), "root": _dotenv(root / ".env")}
    return next((place for place, values in places.items() if name in values), None)


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


def _expanded(name: str, text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise SettingError(name, text, "its ~ names nobody on this machine; write the whole path") from error


def _dotenv(path: Path) -> dict[str, str]:
    """The variables in a file, none when it is not there; raises SettingError when it cannot be read."""
    try:
        return {k: v for k, v in dotenv_values(path).items() if v is not None} if path.is_file() else {}
    except OSError as error:
        allowed = f"a file that this user can read ({error.strerror}); see ls -l, and chown it and its directory"
        raise SettingError(".env", str(path), allowed) from error
    except UnicodeDecodeError as error:
        wrong = error.object[error.start : error.start + 1]
        raise SettingError(".env", str(path), f"a text file in UTF-8 (it holds {wrong!r}); save it as one") from error

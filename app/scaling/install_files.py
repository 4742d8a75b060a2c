"""The text of each file that an installation puts outside of its home. Values in, text out."""

from __future__ import annotations

import shlex
from pathlib import Path

WRITTEN = "Written by bin/supervisor-manager install."


def settings_text() -> str:
    """A first `.env` of the home, in which everything is a comment."""
    return """\
# Settings of this installation, one NAME=value a line; docs/operations.md explains each. After a change:
#   sudo mailcrew supervisor-manager restart
#DATABASE_URL=mysql://mailcrew:password@localhost:3306/mailcrew
#REDIS_URL=redis://localhost:6379/1
#HTTP_BIND=127.0.0.1:8025
#ALERT_WEBHOOK=https://chat.example.com/hook
#ALERT_MAIL=ops@example.com
"""


def supervisorctl_text(socket: Path) -> str:
    """What plain `supervisorctl` reads. It has no section of supervisord: nobody can start one from it."""
    return f"""\
; {WRITTEN} Plain supervisorctl finds Mailcrew's supervisord by it.
; supervisord itself reads its own file in the home, which the service's user may write and root must not read.

[supervisorctl]
serverurl=unix://{_percent(socket)}
"""


def launcher_text(root: Path, home: Path, user: str) -> str:
    """Run any command of `bin/` as the service's user, in its home."""
    return f"""\
#!/bin/sh
# {WRITTEN} Any command, as the user of the service and in its home:
#   sudo mailcrew supervisor-manager status    is bin/supervisor-manager status
#   sudo mailcrew lists show                   is bin/mailcrew lists show
set -eu
umask 027
root={shlex.quote(str(root))}
user={shlex.quote(user)}
export MAILCREW_HOME={shlex.quote(str(home))}
command=mailcrew
case "${{1:-}}" in
    "" | */*) ;;
    *)
        if [ -x "$root/bin/$1" ]; then
            command=$1
            shift
        fi
        ;;
esac
if [ "$(id -un)" = "$user" ]; then
    exec "$root/bin/$command" "$@"
fi
if [ "$(id -u)" != 0 ]; then
    echo "mailcrew: run it with sudo: it works as the user $user" >&2
    exit 1
fi
exec runuser -u "$user" -- "$root/bin/$command" "$@"
"""


def cron_text(launcher: Path, home: Path, user: str, reboot: bool) -> str:
    """A check a minute, whose last answer is kept; ALERT_WEBHOOK and ALERT_MAIL say who is told."""
    run = _cron(launcher)
    lines = [
        f"# {WRITTEN} ALERT_WEBHOOK and ALERT_MAIL in {home}/.env say who is told.",
        "SHELL=/bin/sh",
        f"* * * * * {user} {run} supervisor-manager check >{_cron(home / 'logs/check.log')}",
    ]
    if reboot:
        lines.append(f"@reboot {user} {run} supervisor-manager start >{_cron(home / 'logs/start.log')} 2>&1")
    return "\n".join(lines) + "\n"


def unit_text(launcher: Path, home: Path, user: str, longest_stop: int) -> str:
    """The unit of systemd: it starts and stops the stack as a person would, and brings supervisord back."""
    run = _unit(launcher)
    return f"""\
# {WRITTEN}
[Unit]
Description=Mailcrew: email campaigns and supervised queues
Wants=network-online.target
After=network-online.target mariadb.service mysql.service redis-server.service redis.service

[Service]
Type=forking
User={user}
Group={user}
UMask=0027
PIDFile={_unit_path(home)}/run/supervisord.pid
# The dash: one process that does not come up must not take down all others. Without supervisord there is no pid file,
# and then the start has failed.
ExecStart=-{run} supervisor-manager start
ExecStop={run} supervisor-manager stop
ExecReload={run} supervisor-manager reload
# Workers finish the mails in hand: the longest stop of the table, and what supervisord itself may take.
TimeoutStartSec={longest_stop + 180}
TimeoutStopSec={longest_stop}
Restart=always
RestartSec=5
LimitNOFILE=65536
NoNewPrivileges=true
ProtectSystem=full

[Install]
WantedBy=multi-user.target
"""


def _cron(path: Path) -> str:
    """cron(5) reads a percent sign as the end of the line."""
    return shlex.quote(str(path)).replace("%", r"\%")


def _unit(path: Path) -> str:
    """A word of systemd's command lines (systemd.service(5)): quoted, with its own signs doubled."""
    text = str(path).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{text}"' if " " in text else text


def _unit_path(path: Path) -> str:
    return str(path).replace("%", "%%")


def _percent(path: Path) -> str:
    return str(path).replace("%", "%%")

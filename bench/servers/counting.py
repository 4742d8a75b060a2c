"""An SMTP server in a process of its own that notes the instant of every mail and its recipient.

    python -m bench.servers.counting PORT FILE

It appends `seconds recipient` a line (CLOCK_MONOTONIC, one clock for all processes of the machine) before it
answers 250, so that what it noted is at least what the sender was told. Started again on the same port and file,
it goes on.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from app.config import ROOT
from bench import common

END = b"\r\n.\r\n"


class Session(asyncio.Protocol):
    """One connection; commands may come many at once (RFC 2920)."""

    def __init__(self, log: TextIO) -> None:
        self._log = log
        self._buffer = b""
        self._content = False
        self._recipient = ""
        self._transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        transport.write(b"220 counting\r\n")

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while self._step():
            pass
        self._log.flush()

    def _step(self) -> bool:
        if self._content:
            _, found, rest = self._buffer.partition(END)
            if found:
                self._log.write(f"{time.monotonic():.6f} {self._recipient}\n")
                self._log.flush()
                self._buffer, self._content = rest, False
                self._transport.write(b"250 2.0.0 counted\r\n")
            return bool(found)
        line, found, rest = self._buffer.partition(b"\r\n")
        if found:
            self._buffer = rest
            self._transport.write(self._answer(line))
            if line[:4].upper() == b"QUIT":
                self._transport.close()
        return bool(found)

    def _answer(self, line: bytes) -> bytes:
        verb = line[:4].upper()
        if verb == b"EHLO":
            return b"250-counting\r\n250-PIPELINING\r\n250 8BITMIME\r\n"
        if verb == b"RCPT":
            self._recipient = line.partition(b"<")[2].partition(b">")[0].decode()
        if verb == b"DATA":
            self._content = True
            return b"354 go on\r\n"
        if verb == b"QUIT":
            return b"221 bye\r\n"
        return b"250 ok\r\n"


async def serve(port: int, path: Path) -> None:
    with path.open("a") as log:
        server = await asyncio.get_running_loop().create_server(lambda: Session(log), "127.0.0.1", port)
        await server.serve_forever()


@contextmanager
def counting_server(port: int, path: Path) -> Iterator[None]:
    """Run one until the end of the block, which is sudden for its connections."""
    with common.running([sys.executable, "-m", "bench.servers.counting", str(port), str(path)], cwd=ROOT):
        common.wait_for_port(port)
        yield


def arrivals(path: Path) -> list[tuple[float, str]]:
    """(instant in seconds, recipient) of every mail noted so far, in order."""
    lines = path.read_text().splitlines() if path.exists() else []
    return sorted((float(second), who) for second, _, who in (line.partition(" ") for line in lines))


def most_in(instants: list[float], window: float) -> int:
    """The largest number of instants in any window of that many seconds."""
    most = first = 0
    for last, instant in enumerate(instants):
        while instant - instants[first] >= window:
            first += 1
        most = max(most, last - first + 1)
    return most


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), Path(sys.argv[2])))

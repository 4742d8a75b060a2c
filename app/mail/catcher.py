"""The local catcher: an SMTP server that keeps every mail instead of delivering it.

aiosmtpd speaks the protocol. Its way of reading a mail line by line is replaced, because a
catcher slower than the senders would be what a demonstration measures.
"""

from __future__ import annotations

import asyncio
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session

from app.mail.caught import Arrived, CaughtMailWriter

HOST = "127.0.0.1"
LARGEST_MAIL = 64 * 1024 * 1024
BACKLOG = 512

PLAIN_ADDRESS = re.compile(r"<([A-Za-z0-9_+=.-]+@[A-Za-z0-9.-]+)>((?: .*)?)")


class GroupedCommits:
    """Mails of all connections that arrive in the same turn of the event loop share one commit."""

    def __init__(self, writer: CaughtMailWriter) -> None:
        self._writer = writer
        self._waiting: list[tuple[Arrived, asyncio.Future[None]]] = []

    async def keep(self, mail: Arrived) -> None:
        """Return when the mail is committed; raises what SQLite raised."""
        loop = asyncio.get_running_loop()
        kept = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._commit)
        self._waiting.append((mail, kept))
        await kept

    def _commit(self) -> None:
        turn, self._waiting = self._waiting, []
        try:
            self._writer.add([mail for mail, _ in turn])
        except Exception as error:
            # Each of these connections answers 451, and its sender tries again.
            for _, kept in turn:
                kept.set_exception(error)
        else:
            for _, kept in turn:
                # A connection that was cut meanwhile no longer waits.
                if not kept.done():
                    kept.set_result(None)


class Handler:
    """What aiosmtpd asks us: say that pipelining is understood, keep the mail."""

    def __init__(self, commits: GroupedCommits) -> None:
        self._commits = commits

    async def handle_EHLO(  # noqa: N802 (aiosmtpd's name)
        self, _server: SMTP, session: Session, _envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        return [responses[0], "250-PIPELINING", *responses[1:]]

    async def handle_DATA(  # noqa: N802 (aiosmtpd's name)
        self, _server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        content = envelope.content
        assert isinstance(content, bytes)
        mail = Arrived(
            received_at=time.time_ns() // 1_000_000,
            envelope_from=_text(envelope.mail_from or ""),
            recipients=tuple(_text(address) for address in envelope.rcpt_tos),
            content=content,
        )
        try:
            await self._commits.keep(mail)
        except Exception as error:
            return f"451 4.3.0 not kept: {type(error).__name__}"
        return "250 2.0.0 kept"


class Catcher(SMTP):
    """aiosmtpd's server with three paths made fast: replies, plain addresses, reading a mail."""

    # Also the size of the reader's buffer, which must hold the longest stretch without a lone dot.
    line_length_limit = LARGEST_MAIL

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._replies: list[bytes] = []

    async def push(self, status: str | bytes) -> None:
        """Replies to commands that came together leave together, when the next command is waited for."""
        line = status if isinstance(status, bytes) else status.encode()
        self._replies.append(line + b"\r\n")
        if not line.startswith((b"250", b"354")):
            # The connection may be closed right after this one.
            self._flush()
        elif len(self._replies) == 1:
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        replies, self._replies = self._replies, []
        if replies and not self._writer.is_closing():
            self._writer.write(b"".join(replies))

    def _getaddr(self, arg: str) -> tuple[str | None, str | None]:
        """Nearly every address is plain; the full grammar, for the others, takes fifty times as long."""
        plain = PLAIN_ADDRESS.fullmatch(arg)
        if plain:
            return plain[1], plain[2]
        address, rest = super()._getaddr(arg)
        return address, rest

    async def smtp_DATA(self, arg: str) -> None:  # noqa: N802 (aiosmtpd's name)
        if await self.check_helo_needed():
            return
        assert self.envelope is not None
        if not self.envelope.rcpt_tos:
            await self.push("503 5.5.1 RCPT first")
            return
        if arg:
            await self.push("501 5.5.4 Syntax: DATA")
            return
        await self.push("354 End data with <CR><LF>.<CR><LF>")
        content = await self._read_content()
        if content is None:
            await self.push("552 5.3.4 Too much mail data")
        else:
            self.envelope.content = self.envelope.original_content = content
            await self.push(await self._call_handler_hook("DATA"))
        self._set_post_data_state()  # type: ignore[no-untyped-call]  # aiosmtpd does not say

    async def _read_content(self) -> bytes | None:
        """Everything up to the line with a lone dot, its leading dots undoubled; None: it was too large."""
        content, too_large = bytearray(), False
        while True:
            # Lines that end in a dot are rare, so this is one or a few reads a mail.
            try:
                content += await self._reader.readuntil(b".\r\n")
            except asyncio.LimitOverrunError as overrun:
                await self._reader.readexactly(overrun.consumed)
                too_large = True
                continue
            if content == b".\r\n" or content.endswith(b"\r\n.\r\n"):
                break
            if len(content) > LARGEST_MAIL:
                # Only the last characters still matter: they may begin the end.
                too_large, content = True, content[-2:]
        if too_large:
            return None
        del content[-3:]
        if content.startswith(b".."):
            del content[0]
        return bytes(content.replace(b"\r\n..", b"\r\n."))


async def serve(path: Path, port: int, ready: Callable[[int], None]) -> None:
    """Catch into the file at `path` until SIGTERM or SIGINT; `ready` is told the port that listens.

    Raises OSError when the port is taken.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    writer = CaughtMailWriter(path)
    handler = Handler(GroupedCommits(writer))

    def connection() -> Any:
        return Catcher(handler, hostname="catcher", enable_SMTPUTF8=True, data_size_limit=LARGEST_MAIL, loop=loop)

    try:
        server = await loop.create_server(connection, HOST, port, backlog=BACKLOG)
        ready(server.sockets[0].getsockname()[1])
        await stop.wait()
        server.close()
        # What is committed is still to be answered, else its sender could not know.
        await asyncio.sleep(0.1)
    finally:
        writer.close()


def _text(address: str) -> str:
    """SQLite takes no half characters, which an address of undecodable bytes is made of."""
    return address.encode("utf-8", "surrogateescape").decode("utf-8", "replace")

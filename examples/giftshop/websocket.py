"""The little of RFC 6455 that a server needs which only tells: handshake, frames out, control frames in."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import struct

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA
GOING_AWAY, PROTOCOL_ERROR, TOO_BIG = 1001, 1002, 1009
#: Clients have nothing to tell, so what is longer is a mistake or an attack.
LONGEST_FRAME = 4096


class NotWebSocket(Exception):
    """Raised when a request is no handshake; `answer` is what to say to it."""

    def __init__(self, answer: bytes) -> None:
        super().__init__(answer.split(b"\r\n", 1)[0].decode())
        self.answer = answer


class Broken(Exception):
    """Raised when a client breaks the protocol; `code` is what to close with."""

    def __init__(self, code: int) -> None:
        super().__init__(f"close code {code}")
        self.code = code


def accept(head: bytes) -> bytes:
    """The answer to a handshake (section 4.2), given the request up to its empty line; raises NotWebSocket."""
    request, *lines = head.decode("latin-1").split("\r\n")
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    upgrades = "websocket" in fields.get("upgrade", "").lower()
    asked = "upgrade" in [word.strip().lower() for word in fields.get("connection", "").split(",")]
    if not request.startswith("GET ") or not upgrades or not asked or not _is_key(fields.get("sec-websocket-key", "")):
        raise NotWebSocket(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    if fields.get("sec-websocket-version") != "13":
        raise NotWebSocket(
            b"HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 13\r\n"
            b"Connection: close\r\nContent-Length: 0\r\n\r\n"
        )
    digest = hashlib.sha1(fields["sec-websocket-key"].encode() + GUID).digest()  # noqa: S324 (the RFC's; no secret)
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
    )


def frame(kind: int, content: bytes = b"") -> bytes:
    """One whole frame from the server, which are never masked (section 5.1)."""
    size = len(content)
    if size < 126:
        head = struct.pack("!BB", 0x80 | kind, size)
    elif size < 65536:
        head = struct.pack("!BBH", 0x80 | kind, 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | kind, 127, size)
    return head + content


def closing(code: int) -> bytes:
    return frame(CLOSE, struct.pack("!H", code))


async def read_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Kind and content of the client's next frame; raises Broken, or IncompleteReadError at the end."""
    first, second = await reader.readexactly(2)
    size = second & 0x7F
    # Section 5.1: a client masks every frame. 5.5: control frames are short and in one piece.
    if not second & 0x80 or first & 0x70 or (first & 0x08 and (size > 125 or not first & 0x80)):
        raise Broken(PROTOCOL_ERROR)
    if size == 126:
        (size,) = struct.unpack("!H", await reader.readexactly(2))
    elif size == 127:
        (size,) = struct.unpack("!Q", await reader.readexactly(8))
    if size > LONGEST_FRAME:
        raise Broken(TOO_BIG)
    mask = await reader.readexactly(4)
    masked = await reader.readexactly(size)
    return first & 0x0F, bytes(byte ^ mask[at % 4] for at, byte in enumerate(masked))


def _is_key(key: str) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except binascii.Error:
        return False

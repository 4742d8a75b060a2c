"""Make a PNG of a screen smaller: a screen has few colours, so a palette of 256 shows it all but unchanged."""

from __future__ import annotations

import struct
import zlib
from collections import Counter

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MOST = 256


def smaller(png: bytes) -> bytes:
    """The same picture with a palette. Takes what browsers write: eight bits, RGB or RGBA, not interlaced."""
    chunks = dict(_chunks(png))
    width, height, depth, kind, *_, interlaced = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert (depth, interlaced) == (8, 0)
    size = {2: 3, 6: 4}[kind]
    rows = _rows(zlib.decompress(chunks[b"IDAT"]), width * size, size)
    pixels = [[row[at : at + 3] for at in range(0, len(row), size)] for row in rows]
    counted = Counter(pixel for row in pixels for pixel in row)
    palette = [colour for colour, _ in counted.most_common(MOST)]
    index = _nearest(counted, palette)
    drawn = b"".join(b"\0" + bytes(index[pixel] for pixel in row) for row in pixels)
    return SIGNATURE + b"".join(
        _chunk(name, data)
        for name, data in (
            (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            (b"PLTE", b"".join(palette)),
            (b"IDAT", zlib.compress(drawn, 9)),
            (b"IEND", b""),
        )
    )


def _nearest(colours: Counter[bytes], palette: list[bytes]) -> dict[bytes, int]:
    """The place in the palette of every colour, or of the one that is most like it."""
    found = {colour: at for at, colour in enumerate(palette)}
    for colour in colours:
        if colour not in found:
            apart = [sum((a - b) ** 2 for a, b in zip(colour, one, strict=True)) for one in palette]
            found[colour] = apart.index(min(apart))
    return found


def _chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    """Name and data of each; pieces of one picture as one."""
    found: dict[bytes, bytes] = {}
    at = len(SIGNATURE)
    while at < len(png):
        length, name = struct.unpack(">I4s", png[at : at + 8])
        found[name] = found.get(name, b"") + png[at + 8 : at + 8 + length]
        at += 12 + length
    return list(found.items())


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _rows(data: bytes, length: int, size: int) -> list[bytes]:
    """The bytes of each row, its filter undone (PNG specification, 9.2)."""
    rows: list[bytes] = []
    above = bytes(length)
    for at in range(0, len(data), length + 1):
        kind, row = data[at], bytearray(data[at + 1 : at + 1 + length])
        for i in range(length if kind else 0):
            left, up = row[i - size] if i >= size else 0, above[i]
            corner = above[i - size] if i >= size else 0
            row[i] = (row[i] + (0, left, up, (left + up) // 2, _paeth(left, up, corner))[kind]) & 255
        above = bytes(row)
        rows.append(above)
    return rows


def _paeth(left: int, up: int, corner: int) -> int:
    guess = left + up - corner
    return min((left, up, corner), key=lambda one: abs(guess - one))

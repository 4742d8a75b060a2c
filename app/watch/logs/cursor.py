"""Where a reader of logs is in each file, as a short text that can be handed back: good across rotations."""

from __future__ import annotations

import base64
import binascii
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from app.errors import UsageError
from app.watch.logs.files import Mark

_FIRST = struct.Struct(">Bd")
_EACH = struct.Struct(">IQIQ")
_VERSION = 1
#: Longer ones are none of ours.
LONGEST = 7000


@dataclass(frozen=True)
class Cursor:
    """`at`: an instant (seconds since 1970) that says where to be in the streams without a mark."""

    at: float
    marks: Mapping[int, Mark]

    def mark(self, key: str) -> Mark | None:
        """The place in a stream."""
        return self.marks.get(id_of(key))

    def __str__(self) -> str:
        each = (_EACH.pack(key, m.inode, m.head, m.offset) for key, m in sorted(self.marks.items()))
        packed = _FIRST.pack(_VERSION, self.at) + b"".join(each)
        return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def id_of(key: str) -> int:
    """A stream's number in a cursor."""
    return zlib.crc32(key.encode())


def read_cursor(text: str, name: str) -> Cursor:
    """The cursor that a text stands for; raises UsageError for one that is none."""
    try:
        if len(text) > LONGEST or not text.isascii():
            raise ValueError
        packed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        version, at = _FIRST.unpack_from(packed)
        rest = packed[_FIRST.size :]
        if version != _VERSION or len(rest) % _EACH.size or not 0 <= at < 1e11:
            raise ValueError
        return Cursor(at, {key: Mark(*mark) for key, *mark in _EACH.iter_unpack(rest)})
    except (ValueError, binascii.Error, struct.error):
        raise UsageError(f"{name} is not allowed: what the page before gave") from None

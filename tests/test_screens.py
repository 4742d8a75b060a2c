"""Every page of the console has its picture, and docs/console.md shows all that there are."""

from __future__ import annotations

import re
import struct
import zlib

import pytest

from app.config import ROOT
from app.web.console.frame import all_pages
from tests.screens.png import smaller
from tests.screens.shots import EVERY, SHOTS

FOLDER = ROOT / "docs" / "screens"
LARGEST_TOGETHER = 3_000_000


def test_every_page_has_a_picture() -> None:
    assert {page.name for page in all_pages()} == {shot.page for shot in EVERY}


def test_every_picture_is_there_and_shown() -> None:
    files = sorted(shot.file for shot in SHOTS)
    assert len(set(files)) == len(files)
    assert sorted(path.name for path in FOLDER.iterdir()) == files
    assert sorted(re.findall(r"\]\(screens/([\w.-]+)\)", (ROOT / "docs" / "console.md").read_text())) == files


def test_the_pictures_are_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < LARGEST_TOGETHER


def png(rows: list[bytes], width: int, kind: int) -> bytes:
    """A PNG as a browser writes it, each row with its filter in front."""
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, len(rows), 8, kind, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"".join(rows))),
        (b"IEND", b""),
    )
    body = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + body


def colours(picture: bytes) -> list[list[bytes]]:
    """The pixels of what `smaller` made."""
    width = int.from_bytes(picture[16:20])
    palette = picture[picture.index(b"PLTE") + 4 :]
    start = picture.index(b"IDAT")
    data = zlib.decompress(picture[start + 4 : start + 4 + int.from_bytes(picture[start - 4 : start])])
    rows = [data[at + 1 : at + 1 + width] for at in range(0, len(data), width + 1)]
    return [[palette[3 * one : 3 * one + 3] for one in row] for row in rows]


@pytest.mark.parametrize(
    ("rows", "kind", "pixels"),
    [
        ([b"\0\1\2\3\4\5\6"], 2, [[b"\1\2\3", b"\4\5\6"]]),
        ([b"\0\1\2\3\xff\4\5\6\xff"], 6, [[b"\1\2\3", b"\4\5\6"]]),
        ([b"\1\1\2\3\3\3\3", b"\2\1\1\1\1\1\1"], 2, [[b"\1\2\3", b"\4\5\6"], [b"\2\3\4", b"\5\6\7"]]),
        ([b"\0\2\4\6\4\6\x08", b"\3\1\1\1\1\1\1"], 2, [[b"\2\4\6", b"\4\6\x08"], [b"\2\3\4", b"\4\5\7"]]),
        ([b"\0\2\4\6\4\6\x08", b"\4\1\1\1\1\1\1"], 2, [[b"\2\4\6", b"\4\6\x08"], [b"\3\5\7", b"\5\7\x09"]]),
    ],
    ids=["none", "with alpha", "sub and up", "average", "paeth"],
)
def test_a_picture_of_few_colours_is_the_same_with_a_palette(
    rows: list[bytes], kind: int, pixels: list[list[bytes]]
) -> None:
    assert colours(smaller(png(rows, 2, kind))) == pixels


def test_of_many_colours_the_rare_ones_become_those_that_are_like_them() -> None:
    common = [bytes([value, value, value]) for value in range(256)]
    row = b"\0" + b"".join(common) * 2 + bytes([10, 10, 11])
    (drawn,) = colours(smaller(png([row], 513, 2)))
    assert drawn[:-1] == common * 2
    assert drawn[-1] == bytes([10, 10, 10])

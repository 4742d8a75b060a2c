"""Loaded as a queue's module, this makes its worker hold 64 MB more than it may."""

from __future__ import annotations

#: Written to, so that the pages are there and not only promised.
HELD = bytearray(b"x") * (64 * 1024 * 1024)

"""docs/runbook.md as a list of things to do and to compare: sections, what is given, commands, what they print."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from app.config import ROOT

PAGE = ROOT / "docs" / "runbook.md"

_STEP = re.compile(r"^<!-- given: (?P<given>.*?) -->$|^```console\n(?P<block>.*?)^```$", re.MULTILINE | re.DOTALL)
_EXIT = re.compile(r"\s+# exit (\d+)$")
# What differs from run to run: numbers with their separators, and how much space a column takes.
_PIECE = re.compile(r"…|\d[\d,.:]*(?<![,.:])|[ \t]+")


@dataclass(frozen=True)
class Command:
    """One line after a `$`; `printed` is stdout and stderr as the page shows them."""

    line: str
    code: int
    printed: str


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it: words that say what is given, and commands."""

    title: str
    steps: tuple[str | Command, ...]


def sections(text: str) -> list[Section]:
    """The sections that hold commands."""
    parts = re.split(r"^## (.*)$", text, flags=re.MULTILINE)[1:]
    found = [Section(title, tuple(_steps(body))) for title, body in zip(parts[::2], parts[1::2], strict=True)]
    return [section for section in found if section.steps]


def matches(expected: str, said: str, home: Path) -> bool:
    """Whether a command printed what the page shows."""
    lines = []
    for line in expected.splitlines():
        lines.append(r"(?:.*\n)*?" if line.strip() == "…" else f"{_pattern(line, home)}\n")
    return re.fullmatch("".join(lines), "".join(f"{line.rstrip()}\n" for line in said.splitlines())) is not None


def _steps(body: str) -> list[str | Command]:
    steps: list[str | Command] = []
    for found in _STEP.finditer(body):
        if found["given"]:
            steps.append(found["given"])
            continue
        for one in re.split(r"^\$ ", found["block"], flags=re.MULTILINE)[1:]:
            line, _, printed = one.partition("\n")
            code = _EXIT.search(line)
            steps.append(Command(_EXIT.sub("", line), int(code[1]) if code else 0, printed))
    return steps


def _pattern(line: str, home: Path) -> str:
    if line.isdigit():
        return line  # a number and nothing else is what the command was asked for
    line = line.rstrip().replace("/var/lib/mailcrew", str(home)).replace("/opt/mailcrew", str(ROOT))
    found, at = "", 0
    for piece in _PIECE.finditer(line):
        found += re.escape(line[at : piece.start()])
        what = piece[0]
        space = r"[ \t]*" if piece.start() == 0 else r"[ \t]+"
        found += ".*?" if what == "…" else space if what.isspace() else r"\d[\d,.:]*"
        at = piece.end()
    return found + re.escape(line[at:])

"""What the documents say exists: commands with their options, settings, states, files, links."""

from __future__ import annotations

import io
import re
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from enum import StrEnum
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from app.campaigns.journal import MailState
from app.config import ROOT, TABLE, Setting
from app.models import states

PAGES = sorted([*(ROOT / "docs").glob("*.md"), *ROOT.glob("README*.md")])
MACHINES = [kind for kind in vars(states).values() if isinstance(kind, type) and issubclass(kind, StrEnum)]
STATES = [state.value for kind in MACHINES for state in kind] + [state.name for state in MailState]

_CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"(?<![\w./])bin/([a-z][a-z-]*)(?![\w.])([^`\n]*)")
_MODULE = re.compile(r"-m (app\.[\w.]+)|from (app\.[\w.]+) import main")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_PATH = re.compile(r"(?<![\w./$~])(?:actors|app|bench|bin|docs|examples|supervisor|tests)/[\w./-]*\w")
#: What ends a command: the shell's own signs, a comment, or prose.
_END = re.compile(r"[|;&>#·→…(]|2>")


def test_there_are_documents() -> None:
    assert {page.name for page in PAGES} >= {"architecture.md", "states.md", "operations.md", "decisions.md"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_exists_with_its_options(page: Path) -> None:
    assert [problem for name, words in commands(page.read_text()) for problem in problems(name, words)] == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("`bin/nothing`", "there is no bin/nothing"),
        ("`bin/mailcrew lists burn`", "bin/mailcrew lists burn is no command"),
        ("`bin/mailcrew lists show --colour`", "bin/mailcrew lists show knows no --colour"),
        ("`bin/check-campaign 1 --wrong=2`", "bin/check-campaign knows no --wrong"),
        ("```\nnext: bin/setup --fast\n```", "bin/setup knows no --fast"),
        ("```\n$ X=1 bin/worker --queues a \\\n    --nmae b\n```", "bin/worker knows no --nmae"),
        ("`a && bin/supervisor-manager halt | tail`", "bin/supervisor-manager halt is no command"),
    ],
)
def test_a_command_that_does_not_exist_is_found(text: str, problem: str) -> None:
    assert [found for name, words in commands(text) for found in problems(name, words)] == [problem]


@pytest.mark.parametrize("setting", TABLE, ids=lambda setting: setting.name)
def test_every_setting_stands_in_operations_with_its_default(setting: Setting) -> None:
    rows = [line.split("|") for line in read("operations.md").splitlines() if line.startswith(f"| `{setting.name}` |")]
    assert len(rows) == 1
    assert setting.default in rows[0][2]


@pytest.mark.parametrize("state", STATES)
def test_every_state_stands_in_states(state: str) -> None:
    assert f"`{state}`" in read("states.md")


@pytest.mark.parametrize("name", ["architecture.md", "states.md", "decisions.md"])
def test_every_file_that_is_named_exists(name: str) -> None:
    found = sorted(set(_PATH.findall(read(name))))
    assert found
    assert [path for path in found if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for target in _LINK.findall(page.read_text()):
        file, _, heading = target.partition("#")
        there = page.parent / file if file else page
        if "://" not in target and not (there.exists() and (not heading or heading in headings(there))):
            broken.append(target)
    assert broken == []


def read(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as a forge makes them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Every `bin/NAME` in code, with the words that follow it."""
    for code in _CODE.findall(text):
        for name, rest in _COMMAND.findall(code.replace("\\\n", " ")):
            try:
                words = shlex.split(rest)
            except ValueError:  # an apostrophe of the prose around it
                words = rest.split()
            end = next((at for at, word in enumerate(words) if _END.match(word)), len(words))
            stop = next((at + 1 for at, word in enumerate(words[:end]) if word[-1:] in (",", ";", ")")), end)
            yield name, [word.rstrip(",;:).") for word in words[:stop]]


def problems(name: str, words: list[str]) -> list[str]:
    """What is wrong with one command line, as sentences."""
    if not (ROOT / "bin" / name).is_file():
        return [f"there is no bin/{name}"]
    called: tuple[str, ...] = ()
    while (text := help_of(name, called)) is not None and re.search(r"^usage: .*(COMMAND|VERB) \.\.\.$", text, re.M):
        if len(called) == len(words) or not re.fullmatch(r"[a-z-]+", words[len(called)]):
            break
        called = (*called, words[len(called)])
    line = " ".join((f"bin/{name}", *called))
    if text is None:
        return [f"{line} is no command"]
    options = [word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)]
    return [f"{line} knows no {option}" for option in options if not re.search(rf"{option}(?![\w-])", text)]


@cache
def help_of(name: str, called: tuple[str, ...]) -> str | None:
    """What `--help` prints, None when there is no such command. In this process where that is possible."""
    found = _MODULE.search((ROOT / "bin" / name).read_text())
    if found is None:
        done = subprocess.run([ROOT / "bin" / name, "--help"], capture_output=True, text=True, timeout=30, check=True)
        return done.stdout
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(io.StringIO()), pytest.raises(SystemExit) as ended:
        import_module(found[1] or found[2]).main([*called, "--help"])
    return out.getvalue() if ended.value.code == 0 else None

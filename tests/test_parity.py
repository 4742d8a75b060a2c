"""The table of what commands, API and pages can do is whole, and names nothing that is not there."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from app.cli import main as mailcrew
from app.cli import supervisor
from app.config import ROOT, read_settings
from app.web.application import create_app
from app.web.openapi import description

OPERATIONS = ROOT / "docs" / "operations.md"
#: Programs that are run by supervisord, or that make, test and try the whole.
NO_COMMANDS = {"catcher", "faults", "quickstart", "scheduler", "setup", "test", "web", "worker"}
NONE = "–"


@cache
def rows() -> list[tuple[str, str, str]]:
    """Commands, routes of the API and pages of each row, as they stand there."""
    text = OPERATIONS.read_text().partition("### Commands, API and pages")[2].partition("\n## ")[0]
    found = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("| ") and "`" in line]
    return [(one.strip(), other.strip(), third.strip()) for one, other, third in found]


def named(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def commands(parser: argparse.ArgumentParser, *words: str) -> Iterator[str]:
    """Every command that does something, as it is typed."""
    verbs = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not verbs:
        yield " ".join(words)
    for action in verbs:
        for name, below in action.choices.items():
            yield from commands(below, *words, name)


def plain(route: str) -> str:
    """A path, with its method before it or not, whose parameters are all called the same."""
    method, _, path = route.rpartition(" ")
    return f"{method} {re.sub(r'{[^}]*}|<[^>]*>|[A-Z]{2,}', '*', path)}".strip()


@pytest.fixture(scope="module")
def operations(tmp_path_factory: pytest.TempPathFactory) -> tuple[set[str], set[str]]:
    """`METHOD path` of the API, and the paths of the pages."""
    home: Path = tmp_path_factory.mktemp("home")
    app = create_app(read_settings({"MAILCREW_HOME": str(home)}))
    api = {
        plain(f"{method.upper()} {path}")
        for path, methods in description(app)["paths"].items() if path.startswith("/api/") for method in methods
    }  # fmt: skip
    pages = {
        plain(rule.rule) for rule in app.url_map.iter_rules()
        if rule.endpoint.startswith("console_") and "GET" in (rule.methods or ()) and not rule.rule.endswith("/live")
    }  # fmt: skip
    return api, pages


def test_every_command_stands_there_once() -> None:
    told = [command for cell, _, _ in rows() for command in named(cell)]
    there = [*commands(mailcrew.make_parser()), *commands(supervisor.make_parser(ROOT), "supervisor-manager")]
    there += [path.name for path in (ROOT / "bin").iterdir() if path.name not in NO_COMMANDS]
    assert sorted(told) == sorted(set(there) - {"mailcrew", "supervisor-manager"})


def test_every_route_of_the_api_stands_there(operations: tuple[set[str], set[str]]) -> None:
    told = {plain(route) for _, cell, _ in rows() for route in named(cell) if not route.startswith("/")}
    assert sorted(told ^ operations[0]) == []


def test_every_page_stands_there(operations: tuple[set[str], set[str]]) -> None:
    told = {plain(path) for _, _, cell in rows() for path in named(cell)}
    assert sorted(told - operations[1]) == []
    assert sorted(path for path in operations[1] - told if "dramatiq" not in path) == []


def test_what_can_be_done_in_one_way_only_says_why() -> None:
    assert [row for row in rows() if NONE in row[1:] and "(" not in "".join(row)] == []

"""The README in Chinese says the same as the one in English: the same commands, settings, files and figures."""

from __future__ import annotations

import re
import shlex

import pytest

from app.config import ROOT

ENGLISH, CHINESE = ((ROOT / name).read_text() for name in ("README.md", "README.zh.md"))


def commands(page: str) -> list[list[str]]:
    """Every command of the console blocks as its words, without remarks."""
    blocks = re.findall(r"^```console\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in re.sub(r"\\\n", " ", block).splitlines()]
    return [shlex.split(line[2:], comments=True) for line in lines if line.startswith("$ ")]


def named(page: str) -> set[str]:
    """Settings, files, options and addresses that the text names in code."""
    prose = re.sub(r"^```.*?^```", "", page, flags=re.MULTILINE | re.DOTALL)
    return {code for code in re.findall(r"`([^`\n]+)`", prose) if code.isascii()}


def figures(page: str) -> list[str]:
    """The figures in the table of speeds."""
    return re.findall(r"^\| .* \| ([\d.]+) \| ([\d.]+) \|$", page, re.MULTILINE)


def test_both_have_the_same_commands_in_the_same_order() -> None:
    assert len(commands(ENGLISH)) > 20
    assert commands(CHINESE) == commands(ENGLISH)


def test_both_name_the_same_settings_and_files() -> None:
    assert named(CHINESE) ^ named(ENGLISH) == set()


def test_both_have_the_same_figures() -> None:
    assert figures(ENGLISH)
    assert figures(CHINESE) == figures(ENGLISH)


def test_each_leads_to_the_other() -> None:
    assert "](README.zh.md)" in ENGLISH
    assert "](README.md)" in CHINESE


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "```console\n$ bin/a --x 1   # one\nsaid\n$ B=$(c \\\n    --d)\n```",
            [["bin/a", "--x", "1"], ["B=$(c", "--d)"]],
        ),
        ("```\n$ no console\n```", []),
    ],
)
def test_commands_are_read_without_their_remarks(text: str, found: list[list[str]]) -> None:
    assert commands(text) == found

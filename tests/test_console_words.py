"""Every word of the console exists in every language, and no template has words of its own."""

from __future__ import annotations

import re
import string
from pathlib import Path

import pytest

from app.config import ROOT, TABLE
from app.web.console.frame import all_pages
from app.web.console.page import GROUPS
from app.web.console.words import DIRECTORY, LANGUAGES, catalogue

TEMPLATES = sorted((ROOT / "app/web/console/templates").rglob("*.html"))
CODE = sorted((ROOT / "app/web").rglob("*.py"))

_USED = re.compile(r"""(?:\bt|told|done|word)\(\s*(?:[^"'()]+,\s*)?["']([a-z]\w*\.\w+)["']\s*[,)]""")
_JINJA = re.compile(r"{#.*?#}|{%.*?%}|{{.*?}}", re.DOTALL)
_SCRIPT_FREE = re.compile(r"<code[^>]*>.*?</code>|<title>|<!doctype html>", re.DOTALL | re.IGNORECASE)
_TAG = re.compile(r"<[^>]*>", re.DOTALL)
#: Attributes that people read or hear.
_READ = re.compile(r"""\b(?:title|alt|placeholder|aria-label|aria-description|data-label|data-sure|label)="([^"]*)\"""")


def bare_words(template: str) -> list[str]:
    """The words that a template says by itself."""
    text = re.sub(r"<input type=\"hidden\"[^>]*>", "", _JINJA.sub("", template))
    spoken = _READ.findall(text)
    text = _TAG.sub(" ", _SCRIPT_FREE.sub(" ", text))
    return [word for part in (text, *spoken) for word in re.findall(r"[^\W\d_]+", re.sub(r"&\w+;", "", part))]


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_no_template_has_words_of_its_own(template: Path) -> None:
    assert bare_words(template.read_text()) == []


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("<p>Hello {{ name }}</p>", ["Hello"]),
        ('<input placeholder="Search">', ["Search"]),
        ("<td data-label='x' title=\"你好\">{{ t('a.b') }} · 5</td>", ["你好"]),
        ("{# a remark #}<p class='x'>{{ t('a.b') }}</p>{% if x %}<code>bin/setup</code>{% endif %}", []),
    ],
)
def test_a_word_in_a_template_is_found(template: str, words: list[str]) -> None:
    assert bare_words(template) == words


@pytest.mark.parametrize("language", LANGUAGES[1:])
def test_every_language_has_the_same_words(language: str) -> None:
    first, other = catalogue(LANGUAGES[0]), catalogue(language)
    assert sorted(set(first) ^ set(other)) == []
    assert {p.name for p in (DIRECTORY / language).iterdir()} == {p.name for p in (DIRECTORY / LANGUAGES[0]).iterdir()}


def fields(words: str | dict[str, str]) -> set[str]:
    """What is filled in."""
    texts = [words] if isinstance(words, str) else words.values()
    return {name for text in texts for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("language", LANGUAGES[1:])
def test_every_language_fills_in_the_same(language: str) -> None:
    first, other = catalogue(LANGUAGES[0]), catalogue(language)
    assert {key: fields(other[key]) for key in first} == {key: fields(first[key]) for key in first}


def test_chinese_is_written_in_chinese() -> None:
    """A line that was copied and not translated has no Chinese sign in it."""
    same = {key for key, words in catalogue("zh").items() if not re.search(r"[\u4e00-\u9fff]", str(words))}
    # Names, units and what is nothing but a value.
    assert {key for key in same if catalogue("en")[key] != catalogue("zh")[key]} == set()
    assert len(same) < len(catalogue("zh")) / 10


def test_every_word_that_is_used_has_been_written() -> None:
    used = {key for path in (*TEMPLATES, *CODE) for key in _USED.findall(path.read_text())}
    assert used
    assert sorted(used - set(catalogue("en"))) == []


def test_every_setting_is_told_in_every_language() -> None:
    english = {name: words for name, words in catalogue("en").items() if name.startswith("settings.meaning_")}
    assert english == {f"settings.meaning_{setting.name.lower()}": setting.meaning for setting in TABLE}


def test_every_page_has_a_name_in_the_navigation() -> None:
    wanted = {f"{page.name}.nav" for page in all_pages() if page.nav} | {f"frame.group_{group}" for group in GROUPS}
    assert sorted(wanted - set(catalogue("en"))) == []

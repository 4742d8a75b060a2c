"""What the layers below say is wrong, in the visitor's language where somebody has written it; else in English.

They speak English, to the command line and the API too. A sentence is known by its pattern, `{…}` standing for what
is filled in, and what is filled in may be a sentence again. `tests/test_console_sentences.py` makes each mistake.
"""

from __future__ import annotations

import json
import re
import tomllib
from functools import cache
from pathlib import Path

from flask import Flask, Response, g

from app.web.access import Caller
from app.web.console.words import DIRECTORY, language

#: Longer ones are nobody's mistake in a form.
LONGEST = 2000
#: What stands for numbers only.
NUMBERS = ("least", "most", "count")
_GAP = re.compile(r"\{(\w+)\}")

Sentences = dict[str, tuple[re.Pattern[str], str]]


def install(app: Flask) -> None:
    """Give templates the filter `sentence`, and the console's own scripts their errors in its language."""
    app.jinja_env.filters["sentence"] = in_language
    app.after_request(_answer)


def in_language(said: object) -> str:
    """The sentence in the visitor's language, or as it is."""
    text = str(said) if said else ""
    for pattern, words in sentences(language()).values() if len(text) <= LONGEST else ():
        if found := pattern.fullmatch(text):
            return words.format(**{name: _filled_in(value) for name, value in found.groupdict().items()})
    return text


@cache
def sentences(code: str) -> Sentences:
    """Those of a language by their English pattern; the first that fits counts."""
    path = Path(DIRECTORY).parent / "said_in" / f"{code}.toml"
    written = tomllib.loads(path.read_text()) if path.is_file() else {}
    return {english: (_pattern(english), words) for english, words in written.items()}


def _filled_in(value: str) -> str:
    """In quotes stands what people have written, which is theirs."""
    return value if value[0] in "'\"" and value[-1] == value[0] else in_language(value)


def _pattern(english: str) -> re.Pattern[str]:
    gaps = ("\\d+" if name in NUMBERS else ".+?" for name in _GAP.findall(english))
    parts = _GAP.split(english)
    return re.compile(
        "".join(f"(?P<{part}>{next(gaps)})" if at % 2 else re.escape(part) for at, part in enumerate(parts)), re.DOTALL
    )


def _answer(response: Response) -> Response:
    """With a session only our own scripts ask the API, and show what it answers."""
    caller = g.get("caller")
    if response.status_code >= 400 and response.is_json and isinstance(caller, Caller) and caller.session:
        document = response.get_json()
        if isinstance(document, dict) and "error" in document:
            document["error"]["message"] = in_language(document["error"]["message"])
            response.set_data(json.dumps(document, ensure_ascii=False))
    return response

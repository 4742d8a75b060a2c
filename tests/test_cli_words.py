"""How commands answer to words they do not know, and what they load for those they know."""

from __future__ import annotations

import subprocess
import sys

import pytest

from app.cli import supervisor
from app.config import ROOT


@pytest.mark.parametrize(
    ("known", "unknown"),
    [
        ("supervisor-manager status", "--josn"),
        ("mailcrew schedules set", "--interval"),
        ("mailcrew campaigns list", "all"),
    ],
)
def test_a_word_that_a_command_does_not_know_is_refused_with_its_own_usage(known: str, unknown: str) -> None:
    program, *words = known.split()
    user = ["u@example.org"] if "set" in words else []
    done = subprocess.run(
        [ROOT / "bin" / program, *words, *user, unknown], capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith(f"usage: {known} ")
    assert f"\n{known}: error: unrecognized arguments: {unknown}\n" in done.stderr


def test_an_unknown_verb_is_answered_with_all_there_are() -> None:
    done = subprocess.run([ROOT / "bin" / "supervisor-manager", "begin"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert all(repr(verb) in done.stderr for verb in supervisor.VERBS)


@pytest.mark.parametrize("verb", ["start", "stop"])
def test_what_is_typed_most_loads_no_client_of_redis(verb: str) -> None:
    program = (
        "import sys; from app.config import ROOT; from app.cli.supervisor import make_parser;"
        f"make_parser(ROOT, [{verb!r}]); print(sorted({{'redis', 'rich', 'periodiq'}} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"

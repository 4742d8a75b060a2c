"""How commands answer to words they do not know, and what they load for those they know."""

from __future__ import annotations

import argparse
import errno
import subprocess
import sys
from collections.abc import Callable

import pytest

from app.cli import main, queue_manager, supervisor
from app.cli.running import Parser, run
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


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("NAME", "supervisor-manager start|"),
        ("NAME", "supervisor-manager stop|"),
        ("NAME", "supervisor-manager stop|--wait|5|"),
        ("--prefix", "supervisor-manager install|--prefix|"),
        ("--prefix", "supervisor-manager install|--prefix="),
        ("--to", "supervisor-manager backup|--to|"),
        ("FILE", "supervisor-manager restore|"),
        ("--queue", "mailcrew dead|delete|--all|--queue|"),
        ("--queue", "mailcrew dead|replay|--queue|"),
        ("--id", "mailcrew dead|delete|--id|"),
        ("USER", "mailcrew schedules|unlock|"),
        ("--user", "mailcrew schedules|dispatch|--user|"),
        ("--server", "mailcrew campaigns|create|May|--subject|s|--from|a@b.test|--list|news|--server|"),
        ("--queue", "queue-manager --history|--queue|"),
    ],
)
def test_an_empty_argument_is_refused_and_not_taken_for_everything(
    capsys: pytest.CaptureFixture[str], argument: str, words: str
) -> None:
    # Parsed only, never run: were it not refused, this would stop or install what is here.
    program, said = words.split(" ")
    given = said.split("|")
    makers: dict[str, Callable[[], argparse.ArgumentParser]] = {
        "supervisor-manager": lambda: supervisor.make_parser(ROOT, given),
        "mailcrew": lambda: main.make_parser(given),
        "queue-manager": queue_manager.make_parser,
    }
    with pytest.raises(SystemExit) as refused:
        makers[program]().parse_args(given)
    assert refused.value.code == 2
    assert f"error: argument {argument}: '' is empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/h/state/x"), "/h/state/x: Permission denied"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (TimeoutError("too late"), "too late"),
    ],
)
def test_what_the_system_refuses_is_one_line_without_a_traceback(
    capsys: pytest.CaptureFixture[str], error: OSError, said: str
) -> None:
    def fail(_args: argparse.Namespace) -> int:
        raise error

    parser = Parser(prog="it")
    parser.set_defaults(run=fail)
    assert run(parser, []) == 1
    assert capsys.readouterr().err == f"it: {said}\n"


@pytest.mark.parametrize("words", [["backup", "--to"], ["restore"], ["install", "--dry-run", "--prefix"]])
def test_a_path_below_the_home_of_nobody_is_refused(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        supervisor.make_parser(ROOT, words).parse_args([*words, "~nobodyhere/x"])
    assert refused.value.code == 2
    assert "'~nobodyhere/x': its ~ names nobody on this machine" in capsys.readouterr().err


def test_where_empty_says_something_it_is_taken() -> None:
    args = supervisor.make_parser(ROOT, ["check"]).parse_args(["check", "--webhook", "", "--mail="])
    assert (args.webhook, args.mail) == ("", "")

"""Run a parsed command: one place that turns errors into words and exit codes, for all commands.

Exit codes: 0 done; 1 the thing asked for is not so or failed (reason on stderr); 2 wrong usage.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from app.db.connection import DatabaseTrouble
from app.errors import MailcrewError


class Parser(argparse.ArgumentParser):
    """One whose commands name themselves, and their own usage, where they refuse an argument.

    Plain `argparse` hands what a command does not know up to the program, whose usage then helps nobody.

    An empty argument is refused, for most often it is a shell variable that is not set, and `stop "$GROUP"` must not
    stop everything then. Where empty says something, the argument is added with `type=str`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register("type", None, not_empty)

    def add_subparsers(self, **kwargs: Any) -> Any:
        action = super().add_subparsers(**kwargs)
        action.type = str  # The words after a verb pass through here first; whether they may be empty, it knows itself.
        return action

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[argparse.Namespace, list[str]]:  # type: ignore[override]
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown


def run(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> int:
    """Parse, run the command's `run(args)`, and say a person's mistake without a traceback."""
    try:
        return _run(parser, argv)
    finally:
        _empty_stdout()


def _run(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    for argument in sys.argv[1:] if argv is None else argv:
        if not argument.isprintable() and _is_no_text(argument):
            parser.error(f"{argument!r} is not UTF-8")
    args = parser.parse_args(argv)
    handler: Callable[[argparse.Namespace], int] = args.run
    code = 0
    try:
        code = handler(args)
        if sys.stdout is not None:
            sys.stdout.flush()  # A full disk is known here at the latest.
        return code
    except MailcrewError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return error.exit_code
    except DatabaseTrouble as error:
        print(f"{parser.prog}: the database does not answer or is busy ({error}); try again", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return code  # The reader (head, less) has gone, having read what it wanted.
    except SystemExit as end:
        # So does rich end where a reader has gone.
        if not isinstance(end.__context__, BrokenPipeError):
            raise
        return code
    except OSError as error:
        # A full disk, a file that root has left behind: nothing of ours is broken.
        print(f"{parser.prog}: {_reason(error)}", file=sys.stderr)
        return 1
    except Exception as error:
        if not _is_redis_trouble(error):
            raise
        print(f"{parser.prog}: Redis does not answer ({error}); see bin/supervisor-manager status", file=sys.stderr)
        return 1


def _empty_stdout() -> None:
    """Write out what is left in it; what nobody takes goes nowhere, or Python would complain of it at the very end."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def not_empty(text: str) -> str:
    """An argument that says something."""
    if not text:
        raise argparse.ArgumentTypeError("'' is empty (a variable that is not set?): give a value, or leave it out")
    return text


def _reason(error: OSError) -> str:
    """Which file and what is wrong with it, as far as the system says."""
    said = (error.filename, error.filename2, error.strerror)
    return ": ".join(str(part) for part in said if part) or str(error) or type(error).__name__


def _is_redis_trouble(error: Exception) -> bool:
    """Without loading the client, which would be a third of the time of a command that needs none."""
    client = sys.modules.get("redis")
    return client is not None and isinstance(error, client.RedisError)


def _is_no_text(argument: str) -> bool:
    try:
        argument.encode()
    except UnicodeEncodeError:
        return True
    return False

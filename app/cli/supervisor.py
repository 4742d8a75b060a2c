"""`bin/supervisor-manager`: the whole stack of one home, up and down, and its groups one by one."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from app.cli.running import Parser, run
from app.config import ROOT

#: The verbs and their modules. Only the one that is meant is loaded: all of them take half a second.
VERBS = {
    "start": "up_down",
    "stop": "up_down",
    "restart": "renewing",
    "status": "stack_status",
    "logs": "logs",
    "check": "check_stack",
    "install": "install",
    "backup": "backup",
    "restore": "backup",
    "scale": "scale",
    "render": "renewing",
    "update": "renewing",
    "reload": "renewing",
}
EXAMPLES = """examples:
  bin/supervisor-manager start              everything
  bin/supervisor-manager stop --wait 60     everything, supervisord included
  bin/supervisor-manager stop send          one queue, until somebody starts it again
  bin/supervisor-manager logs send -f --errors
"""


def main(argv: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """The command; `root` holds supervisor/ and bin/, and is another one only in tests."""
    return run(make_parser(root, sys.argv[1:] if argv is None else argv), argv)


def make_parser(root: Path, words: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The parser for a command line: that of its verb alone, or of all verbs."""
    parser = Parser(
        prog="supervisor-manager",
        description="Start, stop and watch the workers and services of MAILCREW_HOME.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for verb in words[:1] if words and words[0] in VERBS else VERBS:
        getattr(import_module(f"app.cli.{VERBS[verb]}"), f"add_{verb}")(commands, root)
    return parser


if __name__ == "__main__":
    sys.exit(main())

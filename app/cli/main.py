"""`bin/mailcrew`: one parser, one file per command group."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from app.cli.running import Parser, run

#: The groups and their modules. Only the one that is meant is loaded: all of them take half a second.
GROUPS = {
    "check": "check",
    "db": "database",
    "lists": "lists",
    "suppress": "suppress",
    "servers": "servers",
    "domains": "domains",
    "senders": "senders",
    "campaigns": "campaigns",
    "dead": "dead",
    "hosts": "hosts",
    "schedules": "schedules",
    "targets": "targets",
    "tokens": "tokens",
}


def main(argv: Sequence[str] | None = None) -> int:
    return run(make_parser(sys.argv[1:] if argv is None else argv), argv)


def make_parser(words: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The parser for a command line: that of its group alone, or of all groups."""
    parser = Parser(
        prog="mailcrew",
        allow_abbrev=False,
        description="Email campaigns and supervised queues on your own servers.",
        epilog="example: bin/mailcrew lists import people.csv --list newsletter",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for group in words[:1] if words and words[0] in GROUPS else GROUPS:
        import_module(f"app.cli.{GROUPS[group]}").add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())

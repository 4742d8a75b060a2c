"""`bin/mailcrew`: one parser, one file per command group, one place that turns errors into exit codes.

Exit codes: 0 done; 1 the thing asked for is not so or failed (reason on stderr); 2 wrong usage.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from types import ModuleType

from app.cli import (
    campaigns,
    check,
    database,
    dead,
    domains,
    hosts,
    lists,
    schedules,
    senders,
    servers,
    suppress,
    targets,
    tokens,
)
from app.db.connection import DatabaseTrouble
from app.errors import MailcrewError
from app.queues.broker import RedisTrouble

GROUPS: tuple[ModuleType, ...] = (
    check, database, lists, suppress, servers, domains, senders, campaigns, dead, hosts, schedules, targets, tokens,
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="mailcrew",
        allow_abbrev=False,
        description="Email campaigns and supervised queues on your own servers.",
        epilog="example: bin/mailcrew lists import people.csv --list newsletter",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for group in GROUPS:
        group.add(commands)
    return run(parser, argv)


def run(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> int:
    """Parse, run the command's `run(args)`, and say a person's mistake without a traceback."""
    for argument in sys.argv[1:] if argv is None else argv:
        if not argument.isprintable() and _is_no_text(argument):
            parser.error(f"{argument!r} is not UTF-8")
    args = parser.parse_args(argv)
    handler: Callable[[argparse.Namespace], int] = args.run
    try:
        return handler(args)
    except MailcrewError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return error.exit_code
    except DatabaseTrouble as error:
        print(f"{parser.prog}: the database does not answer or is busy ({error}); try again", file=sys.stderr)
        return 1
    except RedisTrouble as error:
        print(f"{parser.prog}: Redis does not answer ({error}); see bin/supervisor-manager status", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader (head, less) has gone; Python would complain again while closing stdout.
        sys.stderr.close()
        return 0


def _is_no_text(argument: str) -> bool:
    try:
        argument.encode()
    except UnicodeEncodeError:
        return True
    return False


if __name__ == "__main__":
    sys.exit(main())

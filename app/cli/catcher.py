"""`bin/catcher`: the local SMTP server that keeps every mail instead of delivering it."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from app.cli.running import Parser, run
from app.config import Settings, make_home, settings, variable
from app.errors import SettingError, Unavailable
from app.mail.catcher import HOST, serve

PORT_VARIABLE = "MAILCREW_CATCHER_PORT"


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(
        prog="catcher",
        description="Accept every mail on 127.0.0.1 and keep it in catcher.db in MAILCREW_HOME; deliver nothing.",
        epilog="example: bin/catcher --port 2525",
    )
    parser.add_argument(
        "--port",
        type=_port,
        metavar="N",
        help=f"port to listen on (default: ${PORT_VARIABLE}, else 0); 0: any free one, the same after a restart;"
        " run/catcher.port in MAILCREW_HOME says which",
    )
    parser.set_defaults(run=_run)
    return run(parser, argv)


def port_file(found: Settings) -> Path:
    """Where the catcher writes the port that it listens on."""
    return found.run / "catcher.port"


def _run(args: argparse.Namespace) -> int:
    found = settings()
    make_home(found)
    port = args.port if args.port is not None else _said_port()
    choices = [port] if port else [_remembered(found), 0]

    def ready(listening: int) -> None:
        beside = port_file(found).with_suffix(f".{os.getpid()}")
        beside.write_text(f"{listening}\n")
        beside.replace(port_file(found))
        print(f"catching on {HOST}:{listening} into {found.home / 'catcher.db'}", flush=True)

    for choice in choices:
        try:
            asyncio.run(serve(found.home / "catcher.db", choice, ready))
            return 0
        except OSError as error:
            if choice == choices[-1]:
                raise Unavailable(f"cannot listen on {HOST}:{choice}: {error.strerror}") from error
    return 0


def _said_port() -> int:
    """The port of the variable; raises SettingError."""
    text = variable(PORT_VARIABLE) or "0"
    try:
        return _port(text)
    except argparse.ArgumentTypeError as error:
        raise SettingError(PORT_VARIABLE, text, "a port from 1 to 65535, or 0 for any free one") from error


def _remembered(found: Settings) -> int:
    """The port of the last time: servers that were added with it go on working after a restart."""
    try:
        return _port(port_file(found).read_text().strip())
    except (OSError, argparse.ArgumentTypeError):
        return 0


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r}: a port from 1 to 65535, or 0 for any free one")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())

"""What the verbs of `bin/supervisor-manager` share: how one is added to its parser."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from app.cli.running import not_empty

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
GROUP = "a queue with its bursts and boosts, or a service; without it: everything"


def whole_path(text: str) -> Path:
    """An argument that names a file or directory."""
    try:
        return Path(not_empty(text)).expanduser().absolute()
    except RuntimeError as error:
        problem = f"{text!r}: its ~ names nobody on this machine; write the whole path"
        raise argparse.ArgumentTypeError(problem) from error


def add_verb(
    commands: Commands,
    name: str,
    handler: Callable[[argparse.Namespace], int],
    meaning: str,
    example: str,
    description: str | None = None,
) -> argparse.ArgumentParser:
    """`meaning`: half a line for the list of verbs; `example`: what is typed after `bin/supervisor-manager`."""
    parser = commands.add_parser(
        name, help=meaning, description=description or meaning, epilog=f"example: bin/supervisor-manager {example}"
    )
    parser.set_defaults(run=handler)
    return parser

"""`bin/supervisor-manager restart`, `render`, `update` and `reload`: new processes, a new configuration, or both."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from app.cli.at_work import campaigns_in_hand
from app.cli.database import migrate_home
from app.cli.scale import busy_here
from app.cli.verbs import GROUP, Commands, add_verb
from app.config import make_home, settings
from app.scaling.files import configuration_lock, render_home
from app.scaling.groups import connected, living
from app.scaling.groups import update as apply
from app.scaling.rolling import restart as roll


def add_restart(commands: Commands, _root: Path) -> None:
    parser = add_verb(commands, "restart", restart, "replace running processes one after another", "restart send")
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help=GROUP.replace("everything", "all but redis and catcher")
    )


def add_render(commands: Commands, root: Path) -> None:
    add_verb(commands, "render", partial(render, root), "write the configuration, apply nothing", "render")


def add_update(commands: Commands, root: Path) -> None:
    add_verb(commands, "update", partial(update, root), "render, reread, apply the changed groups", "update")


def add_reload(commands: Commands, root: Path) -> None:
    add_verb(commands, "reload", partial(reload, root), "update, then replace what runs one by one", "reload")


def restart(args: argparse.Namespace) -> int:
    """Run the command; 1 when a process did not come up again."""
    found, say = settings(), partial(print, flush=True)
    make_home(found)
    # The new workers would wait for it, and one by one nothing would be sent any more.
    migrate_home(found)
    done = roll(found, args.name, say, lambda: campaigns_in_hand(found))
    for process in done.down:
        print(f"{process.name} is {process.state}: {process.detail}", file=sys.stderr)
    print(f"{done.count} processes restarted" if done.count else "nothing was running")
    return 1 if done.down else 0


def render(root: Path, _args: argparse.Namespace) -> int:
    """Run the command."""
    found = settings()
    make_home(found)
    with configuration_lock(found), connected(found) as client:
        runs = client.state() == "RUNNING"
        changes = render_home(found, root, living(client) if runs else None)
    for name in changes.written:
        print(f"written: {found.home / name}")
    for name in changes.removed:
        print(f"removed: {found.home / name}")
    if not changes.written and not changes.removed:
        print("nothing to change")
    return 0


def update(root: Path, _args: argparse.Namespace) -> int:
    """Run the command."""
    found = settings()
    make_home(found)
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        print(line, flush=True)

    apply(found, root, say, busy_here(found))
    if not lines:
        print("nothing to change")
    return 0


def reload(root: Path, args: argparse.Namespace) -> int:
    """Run the command; 1 when a process did not come up again."""
    update(root, args)
    return restart(argparse.Namespace(name=None))

"""`bin/supervisor-manager backup` and `restore`: the configuration of a home, into a dated archive and back."""

from __future__ import annotations

import argparse
import os
from functools import partial
from pathlib import Path

from app.cli.verbs import Commands, add_verb, whole_path
from app.config import make_home, settings
from app.scaling.archive import collect
from app.scaling.backup import back_up, back_up_database, newest
from app.scaling.backup import restore as bring_back
from app.scaling.files import configuration_lock


def add_backup(commands: Commands, root: Path) -> None:
    parser = add_verb(
        commands, "backup", partial(backup, root),
        "the configuration into a dated archive", "backup --database --to /backup",
        "Table, templates, .env, rendered files, stopped groups, numbers by hand and secrets go into one tar.gz, mode"
        " 0600. Everything may run meanwhile.",
    )  # fmt: skip
    parser.add_argument("--to", type=whole_path, metavar="DIR", help="where to (default: state/backups of the home)")
    parser.add_argument("--database", action="store_true", help="copy the SQLite database beside the archive too")


def add_restore(commands: Commands, root: Path) -> None:
    parser = add_verb(
        commands, "restore", partial(restore, root),
        "the configuration back from an archive", "restore mailcrew-20261122T120000Z.tar.gz",
        "The archive is checked and tried first; what cannot be used is refused, and nothing is changed. The present"
        " configuration is backed up before it is replaced.",
    )  # fmt: skip
    parser.add_argument(
        "file", nargs="?", type=whole_path, metavar="FILE", help="default: the newest one in state/backups"
    )


def backup(root: Path, args: argparse.Namespace) -> int:
    """Run the command."""
    found = settings()
    make_home(found)
    with configuration_lock(found):
        path = back_up(found, root, args.to)
        count = len(collect(found, root))
    print(f"{path}: {count} files, {path.stat().st_size:,} bytes")
    if args.database:
        copy = back_up_database(found, path)
        print(f"{copy}: the database, {copy.stat().st_size:,} bytes")
    return 0


def restore(root: Path, args: argparse.Namespace) -> int:
    """Run the command; what it changes is rendered, and applied by `update` only."""
    found = settings()
    make_home(found)
    path = newest(found) if args.file is None else args.file
    done = bring_back(found, root, path, os.environ)
    for written in done.written:
        print(f"written: {written}")
    for removed in done.removed:
        print(f"removed: {removed}")
    if not done.written and not done.removed:
        print(f"nothing to change: all is as in {path}")
        return 0
    if done.before:
        print(f"what was there before: {done.before}")
    print("next: bin/supervisor-manager update applies the changed groups; after a changed .env: reload")
    return 0

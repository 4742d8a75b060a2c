"""`bin/supervisor-manager`: the whole stack of one home, up and down, and its groups one by one."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from app.cli import backup, check_stack, install, scale
from app.cli.at_work import campaigns_in_hand, doing, workers_here
from app.cli.logs import show_logs
from app.cli.running import run
from app.cli.stack_status import print_status
from app.config import ROOT, Settings, make_home, settings
from app.db import migrate
from app.errors import UsageError
from app.models.tables import open_database
from app.scaling.files import configuration_lock, render_home, this_machine
from app.scaling.groups import connected, living, start_group, stop_group, update
from app.scaling.rolling import restart
from app.scaling.stack import not_running, start_all, stop_all

START_PATIENCE = 30.0
TAIL_LINES = 15

EXAMPLES = """examples:
  bin/supervisor-manager start              everything
  bin/supervisor-manager stop --wait 60     everything, supervisord included
  bin/supervisor-manager stop send          one queue, until somebody starts it again
  bin/supervisor-manager logs send -f --errors
"""


def main(argv: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """The command; `root` holds supervisor/ and bin/, and is another one only in tests."""
    return run(_parser(root), argv)


def _parser(root: Path) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="supervisor-manager",
        description="Start, stop and watch the workers and services of MAILCREW_HOME.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    group = "a queue with its bursts and boosts, or a service; without it: everything"

    start = _add(commands, "start", partial(_start, root), "start everything, or one group", "start send")
    start.add_argument("name", nargs="?", metavar="NAME", help=group)
    start.add_argument(
        "--wait", type=_seconds, default=START_PATIENCE, metavar="S", help="seconds to come up (default: 30)"
    )

    stop = _add(commands, "stop", partial(_stop, root), "stop everything, or one group", "stop --wait 60")
    stop.add_argument("name", nargs="?", metavar="NAME", help=group)
    stop.add_argument("--wait", type=_seconds, metavar="S", help="seconds (default: as long as a worker may take)")

    again = _add(commands, "restart", _restart, "replace running processes one after another", "restart send")
    again.add_argument("name", nargs="?", metavar="NAME", help=group.replace("everything", "all but redis and catcher"))

    status = _add(commands, "status", partial(_status, root), "what runs and what does not", "status --json")
    status.add_argument("--json", action="store_true", help="one JSON document")
    status.add_argument("--watch", action="store_true", help="redraw every 2 seconds, until Ctrl-C")

    logs = _add(commands, "logs", _logs, "a group's logs as one, in the order of time", "logs send -f --errors")
    logs.add_argument("name", metavar="NAME", help="a queue with its bursts and boosts, or a service")
    logs.add_argument("-f", "--follow", action="store_true", help="go on showing what is added")
    logs.add_argument("--errors", action="store_true", help="stderr instead of stdout")
    logs.add_argument("-n", "--lines", type=int, default=50, metavar="N", help="lines in all (default: 50)")
    logs.add_argument("--json", action="store_true", help="one JSON object a line, as it was logged")

    check_stack.add_options(_add(commands, "check", partial(check_stack.check, root), *check_stack.HELP))

    install.add_options(_add(commands, "install", partial(install.install, root), *install.HELP))
    backup.add_options(_add(commands, "backup", partial(backup.backup, root), *backup.HELP))
    backup.add_restore_options(_add(commands, "restore", partial(backup.restore, root), *backup.RESTORE_HELP))
    scale.add_options(_add(commands, "scale", partial(scale.scale, root), *scale.HELP))
    _add(commands, "render", partial(_render, root), "write the configuration, apply nothing", "render")
    _add(commands, "update", partial(_update, root), "render, reread, apply the changed groups", "update")
    _add(commands, "reload", partial(_reload, root), "update, then replace what runs one by one", "reload")
    return parser


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    handler: Callable[[argparse.Namespace], int],
    meaning: str,
    example: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name, help=meaning, description=meaning, epilog=f"example: bin/supervisor-manager {example}"
    )
    parser.set_defaults(run=handler)
    return parser


def _start(root: Path, args: argparse.Namespace) -> int:
    found = settings()
    make_home(found)
    if args.name:
        groups = start_group(found, root, args.name)
        return _wait_until_running(found, args.wait, groups, f"started: {', '.join(groups)}")
    this_machine(found, root)  # Without a Redis nothing works; say so before anything is changed.
    _migrate(found)
    start_all(found, root, print)
    return _wait_until_running(found, args.wait, None, "everything runs")


def _wait_until_running(found: Settings, wait: float, groups: list[str] | None, success: str) -> int:
    late = not_running(found, wait, groups)
    for process in late:
        print(f"{process.name} is {process.state}: {process.detail}", file=sys.stderr)
        sys.stderr.writelines(f"  | {line}\n" for line in _last_lines(found, process.name))
    if not late:
        print(success)
    return 1 if late else 0


def _stop(root: Path, args: argparse.Namespace) -> int:
    found = settings()
    if args.name:
        outlasted = stop_group(found, root, args.name, args.wait)
        workers = (workers_here(found) if outlasted else None) or {}
        for process in outlasted:
            what = doing(workers.get(process.pid))
            print(f"{process.name} (pid {process.pid}) is still {process.state}{what}", file=sys.stderr)
        if outlasted:
            print(f"asked to stop, and going on to; stop {args.name} again waits for them", file=sys.stderr)
        if not outlasted:
            print(f"stopped: {args.name}")
        return 1 if outlasted else 0
    remaining = stop_all(found, args.wait, print)
    if remaining is None:
        print("not running")
        return 0
    workers = (workers_here(found) if remaining else None) or {}
    # supervisord and the foundations only wait for the others.
    for left in [p for p in remaining if not (p.is_supervisord or p.stops_last)] or remaining:
        print(f"{left.name} (pid {left.pid}) is still there{doing(workers.get(left.pid))}", file=sys.stderr)
    if remaining:
        print("they were asked to stop and go on stopping; stop again waits for them", file=sys.stderr)
        return 1
    print("stopped")
    return 0


def _restart(args: argparse.Namespace) -> int:
    found, say = settings(), partial(print, flush=True)
    make_home(found)
    # The new workers would wait for it, and one by one nothing would be sent any more.
    _migrate(found)
    done = restart(found, args.name, say, lambda: campaigns_in_hand(found))
    for process in done.down:
        print(f"{process.name} is {process.state}: {process.detail}", file=sys.stderr)
    print(f"{done.count} processes restarted" if done.count else "nothing was running")
    return 1 if done.down else 0


def _migrate(found: Settings) -> None:
    db = open_database(found)
    for migration in migrate(db, partial(print, flush=True)):
        print(f"migrated: {migration}", flush=True)
    db.close()


def _status(root: Path, args: argparse.Namespace) -> int:
    if args.json and args.watch:
        raise UsageError("--json and --watch do not go together: --json prints one document")
    return print_status(settings(), root, as_json=args.json, watch=args.watch)


def _render(root: Path, _args: argparse.Namespace) -> int:
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


def _update(root: Path, _args: argparse.Namespace) -> int:
    found = settings()
    make_home(found)
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        print(line, flush=True)

    update(found, root, say, scale.busy_here(found))
    if not lines:
        print("nothing to change")
    return 0


def _reload(root: Path, args: argparse.Namespace) -> int:
    _update(root, args)
    return _restart(argparse.Namespace(name=None))


def _logs(args: argparse.Namespace) -> int:
    return show_logs(
        settings().logs, args.name, errors=args.errors, lines=args.lines, follow=args.follow, as_json=args.json
    )


def _last_lines(found: Settings, process: str) -> list[str]:
    try:
        with (found.logs / f"{process}.err").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 10_000))
            return file.read().decode(errors="replace").splitlines()[-TAIL_LINES:]
    except FileNotFoundError:
        return []  # It could not even be executed, and the line above says why.


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r}: a number of seconds from 0 to 86400")
    return value


if __name__ == "__main__":
    sys.exit(main())

"""`mailcrew dead`: messages that failed for good: look, try again, delete."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import redis

from app.cli.instants import iso
from app.config import settings
from app.errors import NotFound, UsageError
from app.queues.broker import redis_client
from app.queues.dead_letters import (
    DeadLetter,
    dead_letters,
    delete,
    find_dead_letter,
    letters_of_now,
    queues_with_dead_letters,
    replay,
)
from app.scaling.table import load_table

#: What a list shows of the arguments: so many of them, so many characters of each.
SHOWN_ARGUMENTS = 20
SHOWN_CHARACTERS = 200


def add(commands: Any) -> None:
    parser = commands.add_parser("dead", help="messages that failed for good: list, replay, delete")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    show = _add(verbs, "list", run_list, "show them, the oldest first", "list --queue monitor")
    show.add_argument("--json", action="store_true", help="one JSON object a line")
    again = _add(
        verbs, "replay", run_replay, "enqueue them again, as if they were new (needs --queue, --id or --all)",
        "replay --id 0d4f0a2c-6f0e-4c5e-9a53-0a9d4a4a5c11",
    )  # fmt: skip
    again.add_argument("--json", action="store_true", help='{"replayed"}')
    remove = _add(
        verbs, "delete", run_delete, "delete them for good (needs --id or --all)", "delete --queue monitor --all"
    )
    remove.add_argument("--json", action="store_true", help='{"deleted"}')


def _add(
    verbs: Any, name: str, run: Callable[[argparse.Namespace], int], text: str, example: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(
        name, allow_abbrev=False, help=text, description=text, epilog=f"example: bin/mailcrew dead {example}"
    )
    parser.add_argument("--queue", metavar="Q", help="only this queue (default: every one)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--id", metavar="ID", help="only this message; its id as `dead list` and the logs show it")
    which.add_argument("--all", action="store_true", help="all of them")
    parser.set_defaults(run=run)
    return parser


def run_list(args: argparse.Namespace) -> int:
    client = redis_client(settings().redis_url)
    found = 0
    for letter in _chosen(client, args, dead_letters):
        found += 1
        if args.json:
            print(json.dumps(_describe(letter), ensure_ascii=False))
        else:
            what = f"{letter.message.actor_name}({_arguments(letter)})" if letter.message else ""
            line = f"{iso(letter.failed_at)}  {letter.queue:10}  {letter.id}  {what}  {letter.reason}"
            # A message may hold anything, also what moves the cursor.
            print("".join(c if c.isprintable() else "?" for c in line))
    if not found and not args.json:
        print("no dead letters")
    return 0


def run_replay(args: argparse.Namespace) -> int:
    if args.id is None and args.queue is None and not args.all:
        raise UsageError("say which: --id ID, --queue Q or --all")
    return _settle(args, replay, "replayed")


def run_delete(args: argparse.Namespace) -> int:
    if args.id is None and not args.all:
        raise UsageError("deleting is for good, so say which: --id ID or --all")
    return _settle(args, delete, "deleted")


def _settle(args: argparse.Namespace, settle: Callable[[redis.Redis, DeadLetter], bool], verb: str) -> int:
    client = redis_client(settings().redis_url)
    done, found = 0, 0
    for letter in _chosen(client, args, letters_of_now):
        found += 1
        if settle(client, letter):
            done += 1
        else:
            print(f"{letter.id} in {letter.queue} was not {verb}: {_obstacle(letter)}", file=sys.stderr)
    if args.json:
        print(json.dumps({verb: done}))
    elif found:
        print(f"{done} {'message' if done == 1 else 'messages'} {verb}")
    if not found:
        raise NotFound(f"there are no dead letters{f' in {args.queue}' if args.queue else ''}")
    return 0 if done == found else 1


def _obstacle(letter: DeadLetter) -> str:
    return "it is not there any more" if letter.message else f"it {letter.reason}".replace("it its", "its")


def _chosen(
    client: redis.Redis, args: argparse.Namespace, read: Callable[[redis.Redis, str], Iterator[DeadLetter]]
) -> Iterator[DeadLetter]:
    """The letters that --queue and --id name; raises NotFound when there is no such queue or message."""
    known = {name for queue in load_table(settings().table_of()).queues for name in queue.queues}
    filled = queues_with_dead_letters(client)
    if args.queue is not None and args.queue not in known | filled:
        raise NotFound(f"there is no queue {args.queue!r}; there are {', '.join(sorted(known | filled))}")
    queues = sorted(filled) if args.queue is None else [args.queue]
    if args.id is None:
        for queue in queues:
            yield from read(client, queue)
        return
    letter = find_dead_letter(client, queues, args.id)
    if letter is None:
        raise NotFound(f"there is no dead letter {args.id!r}{f' in {args.queue}' if args.queue else ''}")
    yield letter


def _describe(letter: DeadLetter) -> dict[str, Any]:
    message = letter.message
    return {
        "id": letter.id,
        "redis_id": letter.redis_id,
        "queue": letter.queue,
        "actor": message.actor_name if message else None,
        "args": [_bounded(value) for value in message.args[:SHOWN_ARGUMENTS]] if message else [],
        "kwargs": {n: _bounded(v) for n, v in list(message.kwargs.items())[:SHOWN_ARGUMENTS]} if message else {},
        "failed_at": iso(letter.failed_at),
        "reason": letter.reason,
        "retries": letter.retries,
    }


def _bounded(value: Any) -> Any:
    """The value, or the beginning of its JSON when that is long."""
    text = json.dumps(value, ensure_ascii=False)
    return value if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def _arguments(letter: DeadLetter) -> str:
    described = _describe(letter)
    positional = [json.dumps(value, ensure_ascii=False) for value in described["args"]]
    text = ", ".join(
        [*positional, *(f"{n}={json.dumps(v, ensure_ascii=False)}" for n, v in described["kwargs"].items())]
    )
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"

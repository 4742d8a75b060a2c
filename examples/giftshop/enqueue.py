"""Enqueue tasks by hand: `bin/` needs no command for it, an actor's name and its arguments are enough.

python -m examples.giftshop.enqueue confirm_order 4711     one task
python -m examples.giftshop.enqueue --each                 one task through each queue
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from actors.broker import broker
from app.errors import UsageError
from app.queues.tickets import enqueue
from examples.giftshop import actors as _declared  # noqa: F401 (its import declares them)

#: One task for each queue.
SAMPLE: dict[str, tuple[object, ...]] = {
    "exchange_gift_card": ("order-1", "4012888888881881", 2500),
    "crawl_forecast": ("roses",),
    "process_bill": ("bill-1",),
    "query_card": ("4012888888881881",),
    "send_wechat_message": ("Hello from the gift shop",),
    "send_mail": ("ann@example.com", "Your gift card", "It is on its way.", "mail-1"),
    "confirm_order": ("order-1",),
    "archive_order": ("order-1",),
}


def send(actor: str, arguments: Sequence[object]) -> str:
    """Enqueue one task; its queue."""
    if actor not in broker.actors:
        raise UsageError(f"there is no actor {actor!r}; there are {', '.join(sorted(broker.actors))}")
    queue = str(broker.actors[actor].queue_name)
    enqueue(broker, queue, actor, arguments)
    return queue


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="enqueue", description="Enqueue tasks of the gift shop.")
    parser.add_argument("actor", nargs="?", help="the actor's name")
    parser.add_argument("arguments", nargs="*", help="its arguments; whole numbers become numbers")
    parser.add_argument("--each", action="store_true", help="one task through each queue")
    args = parser.parse_args(argv)
    if args.each == bool(args.actor):
        parser.error("name an actor, or say --each")
    given = [int(word) if word.lstrip("-").isdecimal() else word for word in args.arguments]
    try:
        for actor, arguments in SAMPLE.items() if args.each else [(args.actor, given)]:
            sys.stdout.write(f"{send(actor, arguments)}: {actor}\n")
    except UsageError as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())

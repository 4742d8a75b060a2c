"""`bin/worker`: one supervised process, one worker. Owns the signals, runs the loop, leaves politely."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from collections.abc import Callable, Sequence

from dramatiq.brokers.redis import RedisBroker

from app.config import Settings, make_home, settings
from app.errors import MailcrewError
from app.events import emit, start_logging, warn
from app.queues.broker import redis_client, set_limits
from app.workers.guards import (
    BLOCKED_SECONDS,
    say,
    start_blocked_guard,
    start_exit_timer,
    start_memory_guard,
    start_orphan_guard,
)
from app.workers.heartbeat import Heartbeat
from app.workers.loop import WorkerLoop
from app.workers.parent import parent_at_start
from app.workers.signals import register_signals
from app.workers.starts import Starts
from app.workers.stopping import UNNAMED, in_hand, stop_requested
from app.workers.trouble import troubles

#: Who has the actors of the shipped queues.
MODULES = "actors.campaigns,actors.lists,actors.notices,actors.periodic,actors.schedules"
THREADS = 4
#: The queue whose threads WORKER_CONCURRENCY sets, where the command line does not.
MONITOR = "monitor"


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="worker",
        description="Work off queues until told to stop; what supervisord runs.",
        epilog="example: bin/worker --queues send --name send_00 --threads 4",
    )
    parser.add_argument("--queues", required=True, help="queues, comma-separated; strictly in this order")
    parser.add_argument("--name", required=True, help="name of the supervised program, for example send_00")
    parser.add_argument(
        "--threads", type=int, help=f"tasks at a time (default: {MONITOR} WORKER_CONCURRENCY, others {THREADS})"
    )
    parser.add_argument("--memory", type=int, default=0, help="memory limit in MB; 0: none")
    parser.add_argument("--tries", type=int, default=3, help="attempts of a task in all (default 3)")
    parser.add_argument("--timeout", type=int, default=600, help="seconds a task may take (default 600)")
    parser.add_argument("--sleep", type=float, default=1.0, help="seconds between looks at an empty queue")
    parser.add_argument("--modules", default=MODULES, help="modules with the actors")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser()
    args = parser.parse_args(argv)
    if not args.queues.replace(",", " ").strip():
        parser.error("--queues is empty: name at least one queue")
    for name in ("threads", "tries", "timeout"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f"--{name} {getattr(args, name)} is not allowed: 1 or more")
    if not 0 < args.sleep <= 60:
        parser.error(f"--sleep {args.sleep} is not allowed: more than 0, up to 60 seconds")
    start_logging()
    try:
        found = settings()
        make_home(found)
    except MailcrewError as error:
        warn("worker cannot start", program=args.name, reason=str(error))
        return error.exit_code
    # Whoever else starts a worker (a person, another supervisor) has a way of its own to wait.
    starts = Starts.of(found, args.name) if os.environ.get("SUPERVISOR_ENABLED") else None
    try:
        return run(args, found, starts)
    except BaseException as error:
        if starts:
            starts.say(f"{type(error).__name__}: {error}")
        if not isinstance(error, MailcrewError):
            raise
        warn("worker cannot start", program=args.name, reason=str(error))
        return error.exit_code


def run(args: argparse.Namespace, found: Settings, starts: Starts | None) -> int:
    """Run the worker to its end."""
    queues = [name.strip() for name in args.queues.split(",") if name.strip()]
    threads = args.threads or (found.worker_concurrency if MONITOR in queues else None) or THREADS
    loops: list[WorkerLoop] = []
    register_signals(
        lambda: sum(loop.busy for loop in loops), program=args.name, queues=queues, threads=threads
    )  # fmt: skip
    start_orphan_guard(parent_at_start(found))
    if starts:
        starts.wait(starts.begin(time.time()), stop_requested)
    broker = _load(args.modules)
    limits = set_limits(broker, tries=args.tries, timeout=args.timeout)
    loop = WorkerLoop(broker, queues, threads=threads, poll=args.sleep, stop=stop_requested)
    loops.append(loop)
    last_words = starts.say if starts else lambda _: None
    start_exit_timer(loop, max(found.stop_grace_seconds, args.timeout + 10), last_words)
    start_blocked_guard(loop, limits)
    start_memory_guard(args.memory)
    heartbeat = Heartbeat(
        redis_client(found.redis_url), program=args.name, queues=queues, threads=threads,
        busy=lambda: loop.busy, processed=lambda: loop.processed, campaign=lambda: in_hand.campaign(),
        task=loop.tasks.oldest, trouble=troubles.text,
    )  # fmt: skip
    # The time limits start their timer only on this event, which Dramatiq's own command line sends.
    broker.emit_after("process_boot")
    broker.emit_after("worker_boot", loop)
    heartbeat.start()
    loop.run()
    in_hand.note_stop(UNNAMED)
    heartbeat.close()
    broker.emit_before("worker_shutdown", loop)
    if loop.tasks.blocked_threads():
        say(lambda: _end_with_blocked(args.name, loop, last_words))
        # Last of all: from here on another worker may run them again, and they still run here.
        loop.settle_blocked(BLOCKED_SECONDS)
        os._exit(1)
    if starts:
        starts.end()
    emit(
        "Worker gracefully shutdown", program=args.name, pid=os.getpid(), campaign_id=in_hand.stopped_in,
        processed_count=loop.processed, reason=in_hand.stop_reason,
    )  # fmt: skip
    return 0


def _end_with_blocked(program: str, loop: WorkerLoop, last_words: Callable[[str], object]) -> None:
    warn(
        "Worker ends with a blocked task", program=program, pid=os.getpid(), campaign_id=in_hand.stopped_in,
        processed_count=loop.processed, reason=in_hand.stop_reason,
    )  # fmt: skip
    last_words(in_hand.stop_reason)


def _load(modules: str) -> RedisBroker:
    for name in modules.split(","):
        importlib.import_module(name.strip())
    broker = importlib.import_module("actors.broker").broker
    assert isinstance(broker, RedisBroker)
    return broker


if __name__ == "__main__":
    sys.exit(main())

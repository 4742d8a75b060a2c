"""`bin/worker`: one supervised process, one worker. Owns the signals, runs the loop, leaves politely."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import threading
from collections.abc import Sequence
from queue import SimpleQueue
from types import FrameType

from dramatiq.brokers.redis import RedisBroker

from app.config import Settings, make_home, settings
from app.errors import MailcrewError
from app.events import emit, start_logging, warn
from app.queues.broker import redis_client
from app.workers.heartbeat import Heartbeat, resident_mb
from app.workers.loop import WorkerLoop
from app.workers.stopping import in_hand, request_stop, stop_requested

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="worker",
        description="Work off queues until told to stop; what supervisord runs.",
        epilog="example: bin/worker --queues send --name send_00 --threads 4",
    )
    parser.add_argument("--queues", required=True, help="queues, comma-separated; strictly in this order")
    parser.add_argument("--name", required=True, help="name of the supervised program, for example send_00")
    parser.add_argument("--threads", type=int, default=4, help="tasks at a time (default 4)")
    parser.add_argument("--memory", type=int, default=0, help="memory limit in MB; 0: none")
    parser.add_argument("--tries", type=int, default=3, help="attempts of a task in all")
    parser.add_argument("--timeout", type=int, default=600, help="seconds a task may take")
    parser.add_argument("--sleep", type=float, default=1.0, help="seconds between looks at an empty queue")
    parser.add_argument("--modules", default="actors.campaigns,actors.periodic", help="modules with the actors")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser()
    args = parser.parse_args(argv)
    if not args.queues.replace(",", " ").strip():
        parser.error("--queues is empty: name at least one queue")
    if args.threads < 1:
        parser.error(f"--threads {args.threads} is not allowed: 1 or more")
    if not 0 < args.sleep <= 60:
        parser.error(f"--sleep {args.sleep} is not allowed: more than 0, up to 60 seconds")
    start_logging()
    try:
        found = settings()
        make_home(found)
        return run(args, found)
    except MailcrewError as error:
        warn("worker cannot start", program=args.name, reason=str(error))
        return error.exit_code


def run(args: argparse.Namespace, found: Settings) -> int:
    """Run the worker to its end."""
    queues = [name.strip() for name in args.queues.split(",") if name.strip()]
    broker = _load(args.modules)
    loop = WorkerLoop(broker, queues, threads=args.threads, poll=args.sleep, stop=stop_requested)
    _register_signals(queues, args, loop, found.stop_grace_seconds)
    heartbeat = Heartbeat(
        redis_client(found.redis_url), program=args.name, queues=queues, threads=args.threads,
        busy=lambda: loop.busy, processed=lambda: loop.processed, campaign=lambda: in_hand.campaign(),
    )  # fmt: skip
    _start_memory_guard(args.memory)
    _start_orphan_guard()
    # Dramatiq's TimeLimit starts its timer only on this event, which its own command line sends.
    broker.emit_after("process_boot")
    broker.emit_after("worker_boot", loop)
    heartbeat.start()
    loop.run()
    heartbeat.close()
    broker.emit_before("worker_shutdown", loop)
    emit(
        "Worker gracefully shutdown", program=args.name, pid=os.getpid(), campaign_id=None,
        processed_count=loop.processed, reason=in_hand.stop_reason,
    )  # fmt: skip
    return 0


def _load(modules: str) -> RedisBroker:
    for name in modules.split(","):
        importlib.import_module(name.strip())
    broker = importlib.import_module("actors.broker").broker
    assert isinstance(broker, RedisBroker)
    return broker


def _register_signals(queues: list[str], args: argparse.Namespace, loop: WorkerLoop, grace: int) -> None:
    # Acted on by a thread of its own: logging takes locks that the interrupted code may hold, and
    # SimpleQueue.put is the one hand-over that may interrupt itself.
    received: SimpleQueue[int] = SimpleQueue()

    def act() -> None:
        while True:
            _stop(received.get(), args, loop, grace)

    def on_signal(number: int, _frame: FrameType | None) -> None:
        received.put(number)

    threading.Thread(target=act, name="signals", daemon=True).start()

    for number in SIGNALS:
        signal.signal(number, on_signal)
    emit(
        "Signal handlers registered (SIGTERM, SIGINT, SIGQUIT)",
        pid=os.getpid(), program=args.name, queues=queues, threads=args.threads,
    )  # fmt: skip


def _stop(number: int, args: argparse.Namespace, loop: WorkerLoop, grace: int) -> None:
    name = signal.Signals(number).name
    campaign_id, busy = in_hand.campaign(), loop.busy
    if not request_stop(name):
        emit("signal ignored: already stopping", signal=name, signal_number=number)
        return
    emit(
        "Worker received shutdown signal", signal=name, signal_number=number, pid=os.getpid(), campaign_id=campaign_id,
        is_processing=busy > 0,
        plan="will exit after current job completes" if busy else "exiting gracefully",
    )  # fmt: skip
    seconds = max(grace, args.timeout + 10)
    timer = threading.Timer(seconds, _force_exit, args=(seconds, loop))
    timer.daemon = True
    timer.start()


def _force_exit(seconds: int, loop: WorkerLoop) -> None:
    warn("Worker forced to exit: the task in hand did not end in time", seconds=seconds, in_hand=loop.busy)
    sys.stderr.flush()
    os._exit(1)


def _start_memory_guard(limit_mb: int) -> None:
    def watch() -> None:
        while not stop_requested.wait(5):
            if resident_mb() > limit_mb:
                warn("memory limit reached: finishing, then a fresh start", limit_mb=limit_mb, rss_mb=resident_mb())
                request_stop("memory limit")

    if limit_mb:
        threading.Thread(target=watch, name="memory-guard", daemon=True).start()


def _start_orphan_guard() -> None:
    """A worker whose supervisord was killed stops by itself, or the next supervisord starts a second set."""
    parent = os.getppid()

    def watch() -> None:
        while not stop_requested.wait(2):
            if os.getppid() != parent:
                warn("parent process is gone: stopping", parent=parent)
                request_stop("parent process gone")

    threading.Thread(target=watch, name="orphan-guard", daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())

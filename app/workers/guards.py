"""What watches a worker from beside: its memory, its parent, tasks that stay blocked, and an end that does not come."""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable

from app.events import warn
from app.queues.reaper import counts
from app.queues.time_limit import TimeLimits
from app.workers.heartbeat import resident_mb
from app.workers.loop import WorkerLoop
from app.workers.parent import watch_parent
from app.workers.stopping import UNNAMED, in_hand, request_stop, stop_requested

MEMORY_LOOK_SECONDS = 5.0
BLOCKED_LOOK_SECONDS = 1.0
#: A task that still runs this long after its time limit is given up, and its worker with it.
BLOCKED_SECONDS = 10.0
#: A process in which no thread of ours ran for this long (C code that keeps the interpreter) is ended.
#: Well below the reaper's 30 s: by then another worker must not find it still at work.
FROZEN_SECONDS = 20.0
#: How long a last log line may take: whoever reads our output may have stopped reading.
LAST_WORDS_SECONDS = 5.0

FORCED = "Worker forced to exit: what is in hand did not end in time"


def start_exit_timer(loop: WorkerLoop, seconds: float, last_words: Callable[[str], object]) -> None:
    """However the stop came about: `seconds` after it this process ends, whatever hangs. Exit code 1."""

    def watch() -> None:
        stop_requested.wait()
        in_hand.note_stop(UNNAMED)
        time.sleep(seconds)
        say(lambda: _force(loop, seconds, last_words))
        os._exit(1)

    threading.Thread(target=watch, name="exit-timer", daemon=True).start()


def _force(loop: WorkerLoop, seconds: float, last_words: Callable[[str], object]) -> None:
    warn(
        FORCED, seconds=seconds, reason=in_hand.stop_reason, campaign_id=in_hand.stopped_in,
        in_hand=[task.described() for task in loop.tasks.in_hand()],
    )  # fmt: skip
    last_words(f"forced to exit {seconds:g} s after: {in_hand.stop_reason}")


def say(words: Callable[[], object]) -> None:
    """Say last words; whatever becomes of them, this returns within a moment."""
    try:
        speaker = threading.Thread(target=words, name="last-words", daemon=True)
        speaker.start()
        speaker.join(LAST_WORDS_SECONDS)
    except RuntimeError:
        pass  # no thread can be started any more


def start_memory_guard(limit_mb: int) -> None:
    def watch() -> None:
        while not stop_requested.wait(MEMORY_LOOK_SECONDS):
            if (held := resident_mb()) > limit_mb:
                warn("memory limit reached: finishing, then a fresh start", limit_mb=limit_mb, rss_mb=held)
                request_stop("memory limit")

    if limit_mb:
        threading.Thread(target=watch, name="memory-guard", daemon=True).start()


def start_orphan_guard(parent: int) -> None:
    """A worker whose supervisord was killed finishes what is in hand and ends."""

    def gone() -> None:
        # The flag first: telling it may hang, for our output went to the parent.
        request_stop("parent process gone")
        warn("parent process is gone: stopping", parent=parent)

    watch_parent(parent, stop_requested, gone)


def start_blocked_guard(loop: WorkerLoop, limits: TimeLimits) -> None:
    """Gives up tasks that the time limit's exception does not reach: they are in C code, or they catch it."""
    frozen_matters = any(counts(queue) for queue in loop.queues)

    def watch() -> None:
        while True:
            if frozen_matters:
                # A thread of C: it needs no interpreter. Armed anew each time, so it fires only when we do not run.
                faulthandler.dump_traceback_later(FROZEN_SECONDS, exit=True, file=sys.__stderr__ or sys.stderr)
            look()
            time.sleep(BLOCKED_LOOK_SECONDS)

    def look() -> None:
        given_up = loop.tasks.give_up(limits.blocked(time.monotonic(), BLOCKED_SECONDS))
        if given_up:
            request_stop("a task stays blocked past its time limit")
        for task in given_up:
            warn("task stays blocked past its time limit: this worker ends", **task.described())

    threading.Thread(target=watch, name="blocked-guard", daemon=True).start()

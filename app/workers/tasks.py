"""Runs messages and settles them: done, again later, or dead. Each is one atomic step in Redis."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dramatiq.broker import MessageProxy
from dramatiq.brokers.redis import RedisBroker
from dramatiq.errors import ActorNotFound
from dramatiq.middleware import SkipMessage
from dramatiq.middleware.time_limit import TimeLimitExceeded

from app.events import emit, warn
from app.queues.broker import RedisTrouble, time_limits
from app.queues.consumer import Consumer

RECONNECT_SECONDS = 1.0


@dataclass(eq=False)
class Task:
    """A message in the hands of a thread; `began` is monotonic."""

    queue: str
    message: MessageProxy
    thread: int = field(default_factory=threading.get_ident)
    began: float = field(default_factory=time.monotonic)
    #: Somebody decides what becomes of the message: the thread that ran it, or whoever gave that up.
    claimed: bool = False

    @property
    def seconds(self) -> float:
        return round(time.monotonic() - self.began, 3)

    def described(self) -> dict[str, Any]:
        """What a log line says of it."""
        return {
            "queue": self.queue, "actor": self.message.actor_name, "id": self.message.message_id,
            "seconds": self.seconds,
        }  # fmt: skip


class Tasks:
    """`let_go(id)` is called when Redis knows what became of the message with this id in Redis."""

    def __init__(
        self, broker: RedisBroker, consumer: Consumer, stop: threading.Event, let_go: Callable[[str], None]
    ) -> None:
        self._broker = broker
        self._consumer = consumer
        self._stop = stop
        self._let_go = let_go
        self._limits = time_limits(broker)
        self._lock = threading.Lock()
        self._in_hand: list[Task] = []
        #: Tasks that stayed blocked past their time limit; their threads may never come back.
        self._blocked: list[Task] = []

    def in_hand(self) -> list[Task]:
        """What runs now, the oldest first."""
        with self._lock:
            return list(self._in_hand)

    def oldest(self) -> tuple[str, float] | None:
        """The actor that has run longest now, and for how many seconds; None when nothing runs."""
        return next(((task.message.actor_name, task.seconds) for task in self.in_hand()), None)

    def blocked_threads(self) -> set[int]:
        """Ids of the threads that were given up."""
        with self._lock:
            return {task.thread for task in self._blocked}

    def run(self, queue: str, message: MessageProxy) -> None:
        """Run one message in this thread and settle it."""
        task = Task(queue, message)
        # Asks the broker's retries to write down their delay here instead of enqueuing.
        message.retry_in = None  # type: ignore[attr-defined]
        with self._lock:
            self._in_hand.append(task)
        try:
            emit("Processing", queue=queue, actor=message.actor_name, id=message.message_id)
            if self._perform(task):
                self._settle(task)
                emit("Processed", **task.described())
        finally:
            message.clear_exception()
            with self._lock:
                self._in_hand.remove(task)

    def give_up(self, threads: list[int]) -> list[Task]:
        """Take the tasks of threads that do not come back out of their hands; those that still ran.

        They stay this worker's, so that nobody runs them meanwhile, until `settle_blocked`.
        """
        with self._lock:
            found = [task for task in self._in_hand if task.thread in threads and not task.claimed]
            for task in found:
                task.claimed = True
            self._blocked.extend(found)
        return found

    def settle_blocked(self, patience: float) -> int:
        """Count the tasks that were given up as failed tries; how many. The process must end right after."""
        with self._lock:
            blocked, self._blocked = self._blocked, []
        for task in blocked:
            try:
                raise TimeLimitExceeded(f"still blocked {patience:g} s after its time limit; its worker was ended")
            except TimeLimitExceeded as error:
                self._failed(task.message, error)
            self._settle(task)
        return len(blocked)

    def _claim(self, task: Task) -> bool:
        with self._lock:
            mine, task.claimed = not task.claimed, True
            return mine

    def _perform(self, task: Task) -> bool:
        """Run the actor; whether its message is still ours to settle."""
        message = task.message
        try:
            try:
                self._broker.emit_before("process_message", message)
                result = None
                if not message.failed:
                    result = self._broker.get_actor(message.actor_name)(*message.args, **message.kwargs)
            finally:
                self._limits.finished()
            if not self._claim(task):
                return False
            self._broker.emit_after("process_message", message, result=result)
        except SkipMessage:
            self._broker.emit_after("skip_message", message)
        except ActorNotFound as error:
            warn("message for an actor that is not here; moved to the dead letters", actor=message.actor_name)
            message.fail()
            message.stuff_exception(error)
        except BaseException as error:
            # The time limit's exception may have come while the end of the task was being noted.
            self._limits.finished()
            if not self._claim(task):
                return False
            self._failed(message, error)
        return True

    def _failed(self, message: MessageProxy, error: BaseException) -> None:
        """Decide whether it is tried again; inside the except clause, for the traceback that is kept."""
        reason = f"{type(error).__name__}: {error}"
        warn("task failed", actor=message.actor_name, id=message.message_id, reason=reason)
        message.stuff_exception(error)
        self._broker.emit_after("process_message", message, exception=error)
        if message.retry_in is None:
            message.fail()

    def _settle(self, task: Task) -> None:
        """Tell Redis, again and again until it knows or this worker is told to stop; then a reaper does."""
        message = task.message
        id_ = str(message.options["redis_message_id"])
        verb = "nack" if message.failed else "ack" if message.retry_in is None else "retry"
        while True:
            try:
                if verb == "retry":
                    self._consumer.retry(task.queue, id_, message._message, message.retry_in)
                else:
                    self._broker.emit_before(verb, message)
                    if verb == "nack":
                        self._consumer.bury(task.queue, id_, message._message, _reason(message))
                    else:
                        self._broker.do_ack(task.queue, id_)
                    self._broker.emit_after(verb, message)
                self._let_go(id_)
                return
            except RedisTrouble as error:
                warn(f"{verb} did not reach Redis", id=message.message_id, reason=str(error))
                if self._stop.wait(RECONNECT_SECONDS):
                    return


def _reason(message: MessageProxy) -> str | None:
    error = message._exception
    return f"{type(error).__name__}: {error}" if error else None

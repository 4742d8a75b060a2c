"""The worker loop: fetch in the order of the queues, only for free threads, run, acknowledge.

Dramatiq's own worker prefetches, mixes queues and runs messages after it was told to stop. This
loop speaks the same Redis script (fetch, ack, nack, requeue, enqueue) and calls the same
middleware, so actors and dashboard notice no difference.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Sequence
from typing import Any

from dramatiq import Message
from dramatiq.broker import MessageProxy
from dramatiq.brokers.redis import RedisBroker
from dramatiq.common import current_millis, dq_name, q_name
from dramatiq.errors import ActorNotFound, DecodeError
from dramatiq.middleware import SkipMessage

from app.events import emit, warn
from app.queues.broker import NAMESPACE, RedisTrouble

#: Delayed messages held in memory at a time, per queue.
MAX_DELAYED = 1000
RECONNECT_SECONDS = 1.0
#: A worker whose threads are all busy shows Redis this often, in seconds, that it lives: after 60
#: without a command others take its messages for a dead worker's and run them again.
BEAT_SECONDS = 5.0


class WorkerLoop:
    """`threads` threads that work off `queues`, strictly in that order."""

    def __init__(
        self, broker: RedisBroker, queues: Sequence[str], *, threads: int, poll: float, stop: threading.Event
    ) -> None:
        self._broker = broker
        self.queues = list(queues)
        self.threads = threads
        self._poll = poll
        self._stop = stop
        self._lock = threading.Condition()
        self._inbox: list[tuple[str, MessageProxy]] = []
        self._free = 0
        self._closing = False
        self._delayed: list[tuple[int, str, str, MessageProxy]] = []
        #: What was fetched and not yet acknowledged or handed back, by its id in Redis.
        self._held: set[str] = set()
        self._beat_at = 0.0
        self.processed = 0
        self.busy = 0
        self._threads = [threading.Thread(target=self._work, name=f"worker-{i}", daemon=True) for i in range(threads)]

    def run(self) -> None:
        """Work until the stop flag is set, then finish what is in hand and return."""
        for thread in self._threads:
            thread.start()
        pause, in_doubt = 0.0, False
        while not self._stop.is_set():
            try:
                if in_doubt:
                    self._recover()
                    in_doubt = False
                got = self._fetch_round()
            except RedisTrouble as error:
                warn("Redis does not answer; trying again", reason=str(error))
                in_doubt = True
                self._stop.wait(RECONNECT_SECONDS)
                continue
            # Right after work there is often more; an idle worker asks once per poll interval.
            pause = 0.0 if got else min(self._poll, max(0.02, pause * 2))
            self._stop.wait(pause)
        self._finish()

    def _fetch_round(self) -> int:
        got = self._enqueue_due()
        with self._lock:
            if self._free <= len(self._inbox) and not self._stop.is_set():
                self._lock.wait(0.1)
            room = self._free - len(self._inbox)
        if room <= 0:
            self._beat()
            return 1
        for queue in self.queues:
            if room <= 0 or self._stop.is_set():
                break
            found = self._fetch(queue, room)
            got += len(found)
            room -= len(found)
        for queue in self.queues:
            if not self._stop.is_set() and len(self._delayed) < MAX_DELAYED:
                self._hold(self._fetch(dq_name(queue), MAX_DELAYED - len(self._delayed), hand_out=False))
        return got

    def _beat(self) -> None:
        if time.monotonic() >= self._beat_at:
            self._broker.do_fetch(self.queues[0], 0)
            self._beat_at = time.monotonic() + BEAT_SECONDS

    def _recover(self) -> None:
        """Put back what Redis gave us in an answer that never came."""
        for queue in [*self.queues, *map(dq_name, self.queues)]:
            given: set[Any] = self._broker.client.smembers(f"{NAMESPACE}:__acks__.{self._broker.broker_id}.{queue}")
            lost = {id_.decode() for id_ in given} - self._held
            if lost:
                # Only what is still in our set is moved: one acknowledged since then is not.
                self._broker.do_requeue(queue, *lost)
                warn("messages of a lost answer put back", queue=queue, count=len(lost))

    def _fetch(self, queue: str, room: int, hand_out: bool = True) -> list[tuple[str, MessageProxy]]:
        data = self._broker.do_fetch(queue, room)
        found = [(queue, message) for raw in data if raw is not None and (message := _decode(queue, raw))]
        if self._stop.is_set():
            self._requeue(found)
            return []
        self._held.update(message.options["redis_message_id"] for _, message in found)
        if hand_out and found:
            with self._lock:
                self._inbox.extend(found)
                self._lock.notify_all()
        return found

    def _hold(self, found: list[tuple[str, MessageProxy]]) -> None:
        for queue, message in found:
            eta = message.options.get("eta") or 0
            heapq.heappush(self._delayed, (int(eta), message.message_id, queue, message))

    def _enqueue_due(self) -> int:
        moved = 0
        while self._delayed and self._delayed[0][0] <= current_millis():
            _, _, queue, message = self._delayed[0]
            due = message.copy(queue_name=q_name(queue))
            due.options.pop("eta", None)
            self._broker.enqueue(due)
            # Only now: with Redis away it stays here for the next round.
            heapq.heappop(self._delayed)
            self._acknowledge(queue, message)
            moved += 1
        return moved

    def _work(self) -> None:
        while True:
            with self._lock:
                self._free += 1
                self._lock.notify_all()
                while not self._inbox and not self._closing:
                    self._lock.wait()
                self._free -= 1
                if self._closing or self._stop.is_set():
                    return
                queue, message = self._inbox.pop(0)
                self.busy += 1
            try:
                self._process(queue, message)
            finally:
                with self._lock:
                    self.busy -= 1
                    self.processed += 1

    def _process(self, queue: str, message: MessageProxy) -> None:
        started = time.monotonic()
        emit("Processing", queue=queue, actor=message.actor_name, id=message.message_id)
        try:
            self._broker.emit_before("process_message", message)
            result = None
            if not message.failed:
                result = self._broker.get_actor(message.actor_name)(*message.args, **message.kwargs)
            self._broker.emit_after("process_message", message, result=result)
        except SkipMessage:
            self._broker.emit_after("skip_message", message)
        except ActorNotFound as error:
            warn("message for an actor that is not here; moved to the dead letters", actor=message.actor_name)
            message.fail()
            message.stuff_exception(error)
        except BaseException as error:
            warn(
                "task failed",
                actor=message.actor_name,
                id=message.message_id,
                reason=f"{type(error).__name__}: {error}",
            )
            message.stuff_exception(error)
            self._broker.emit_after("process_message", message, exception=error)
        finally:
            self._acknowledge(queue, message)
            message.clear_exception()
            emit(
                "Processed", queue=queue, actor=message.actor_name, id=message.message_id,
                seconds=round(time.monotonic() - started, 3),
            )  # fmt: skip

    def _acknowledge(self, queue: str, message: MessageProxy) -> None:
        """Ack or nack, again and again until Redis has it or this worker is told to stop.

        A message whose retry could not be enqueued goes back as it was: acknowledged it would be lost.
        """
        verb = "requeue" if getattr(message, "retry_lost", False) else "nack" if message.failed else "ack"
        while True:
            try:
                if verb != "requeue":
                    self._broker.emit_before(verb, message)
                getattr(self._broker, f"do_{verb}")(queue, message.options["redis_message_id"])
                self._held.discard(message.options["redis_message_id"])
                if verb != "requeue":
                    self._broker.emit_after(verb, message)
                return
            except RedisTrouble as error:
                warn(f"{verb} did not reach Redis", id=message.message_id, reason=str(error))
                if self._stop.wait(RECONNECT_SECONDS):
                    return

    def _finish(self) -> None:
        with self._lock:
            self._closing = True
            left, self._inbox = self._inbox, []
            self._lock.notify_all()
        self._requeue(left + [(queue, message) for _, _, queue, message in self._delayed])
        for thread in self._threads:
            thread.join()

    def _requeue(self, messages: Sequence[tuple[str, Any]]) -> None:
        by_queue: dict[str, list[str]] = {}
        for queue, message in messages:
            by_queue.setdefault(queue, []).append(message.options["redis_message_id"])
        for queue, ids in by_queue.items():
            try:
                self._broker.do_requeue(queue, *ids)
            except RedisTrouble as error:
                warn("messages could not be handed back", queue=queue, count=len(ids), reason=str(error))


def _decode(queue: str, raw: bytes) -> MessageProxy | None:
    """The message, or None: one that cannot be read must not take the worker and its other messages along."""
    try:
        return MessageProxy(Message.decode(raw))
    except DecodeError as error:
        warn("message that cannot be read; left alone", queue=queue, raw=repr(raw[:200]), reason=str(error))
        return None

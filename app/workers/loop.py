"""The worker loop: fetch in the order of the queues, only for free threads, run, acknowledge.

Dramatiq's own worker prefetches, mixes queues and runs messages after it was told to stop. This
loop keeps Dramatiq's keys, messages and middleware, so actors and dashboard notice no difference;
fetch, ack and enqueue are its own script, the other moves are scripts of ours.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Sequence
from typing import Any

from dramatiq.broker import MessageProxy
from dramatiq.brokers.redis import RedisBroker
from dramatiq.common import current_millis, dq_name, q_name

from app.events import warn
from app.queues.broker import RedisTrouble
from app.queues.consumer import Consumer
from app.queues.dead_letters import read_message
from app.queues.reaper import Reaper
from app.workers.tasks import RECONNECT_SECONDS, Tasks

#: Delayed messages held in memory at a time, per queue.
MAX_DELAYED = 1000
#: A worker shows Redis this often, in seconds, that it lives: after 30 without a sign others take
#: its messages for a dead worker's and run them again.
BEAT_SECONDS = 5.0


class WorkerLoop:
    """`threads` threads that work off `queues`, strictly in that order."""

    def __init__(
        self,
        broker: RedisBroker,
        queues: Sequence[str],
        *,
        threads: int,
        poll: float,
        stop: threading.Event,
        reaper: Reaper | None = None,
    ) -> None:
        self._broker = broker
        self.queues = list(queues)
        self._consumer = Consumer(broker.client, broker.broker_id, self.queues)
        self._reaper = reaper or Reaper(broker.client, self.queues)
        self.threads = threads
        self._poll = poll
        self._stop = stop
        self._bell = threading.Event()
        self._lock = threading.Condition()
        self._inbox: list[tuple[str, MessageProxy]] = []
        self._free = 0
        self._closing = False
        self._delayed: list[tuple[int, str, str, MessageProxy]] = []
        #: What was fetched and not yet acknowledged or handed back, by its id in Redis.
        self._held: set[str] = set()
        self.tasks = Tasks(broker, self._consumer, stop, self._held.discard)
        self._beat_at = 0.0
        #: A message whose worker died before is about: it is taken alone, or those that ran beside it
        #: would share the blame for the next death.
        self._alone = False
        self.processed = 0
        self.busy = 0
        self._threads = [threading.Thread(target=self._work, name=f"worker-{i}", daemon=True) for i in range(threads)]

    def wake(self) -> None:
        """Have the queues looked at now, not only after the pause between two looks. For any thread."""
        self._bell.set()

    def run(self) -> None:
        """Work until the stop flag is set, then finish what is in hand and return."""
        for thread in self._threads:
            thread.start()
        # Two things end a rest, and one can wait for one only.
        threading.Thread(target=self._ring_at_stop, name="stop-bell", daemon=True).start()
        pause, in_doubt = 0.0, False
        while not self._stop.is_set():
            try:
                if in_doubt:
                    self._recover()
                    in_doubt = False
                self._beat()
                got = self._fetch_round()
                # Right after work there is often more; an idle worker asks once per poll interval.
                pause = 0.0 if got else min(self._poll, max(0.02, pause * 2))
                self._rest(pause)
            except RedisTrouble as error:
                warn("Redis does not answer; trying again", reason=str(error))
                in_doubt = True
                self._beat_at = 0.0
                self._stop.wait(RECONNECT_SECONDS)
        self._finish()

    def _ring_at_stop(self) -> None:
        self._stop.wait()
        self._bell.set()

    def _rest(self, seconds: float) -> None:
        """Wait, but not so long that this worker would seem dead, and not past a wake."""
        end = time.monotonic() + seconds
        while not self._bell.wait(min(BEAT_SECONDS, max(0.0, end - time.monotonic()))):
            if time.monotonic() >= end:
                return
            self._beat()
        self._bell.clear()

    def _fetch_round(self) -> int:
        got = self._enqueue_due()
        with self._lock:
            if self._room() <= 0 and not self._stop.is_set():
                self._lock.wait(0.1)
            room = self._room()
        if room <= 0:
            return 1
        suspects = False
        for queue in self.queues:
            if room <= 0 or self._stop.is_set():
                break
            found, suspect = self._fetch(queue, room)
            got += len(found)
            room = 0 if suspect else room - len(found)
            suspects |= suspect
        # Until a round finds none any more.
        self._alone = suspects
        for queue in self.queues:
            if not self._stop.is_set() and len(self._delayed) < MAX_DELAYED:
                self._hold(self._fetch(dq_name(queue), MAX_DELAYED - len(self._delayed), hand_out=False)[0])
        return got

    def _room(self) -> int:
        """How many messages may be fetched; under the lock."""
        room = self._free - len(self._inbox)
        return room if not self._alone else int(room == self.threads)

    def _beat(self) -> None:
        if time.monotonic() >= self._beat_at:
            self._consumer.beat()
            self._beat_at = time.monotonic() + BEAT_SECONDS
            self._reaper.step()

    def _recover(self) -> None:
        """Put back what Redis gave us in an answer that never came."""
        for queue in [*self.queues, *map(dq_name, self.queues)]:
            # Only what is still in our set is moved: one acknowledged since then is not.
            count = self._consumer.put_back(queue, self._consumer.unknown(queue, self._held))
            if count:
                warn("messages of a lost answer put back", queue=queue, count=count)

    def _fetch(self, queue: str, room: int, hand_out: bool = True) -> tuple[list[tuple[str, MessageProxy]], bool]:
        """What was fetched, and whether a message is about whose worker died before."""
        data = self._broker.do_fetch(queue, room)
        read = [(raw, message and MessageProxy(message)) for raw in data for message in [raw and read_message(raw)]]
        found = [(queue, message) for _, message in read if message]
        if len(found) < len(data):
            known = self._held.union(_redis_id(message) for _, message in found)
            count = self._consumer.bury_unreadable(queue, known)
            warn("messages that cannot be read moved to the dead letters", queue=queue, count=count)
        # The reaper marks them with spaces before the JSON.
        suspects = [_redis_id(message) for raw, message in read if message and raw[:1] == b" "]
        if suspects and not self._alone:
            self._consumer.put_back(queue, suspects)
            found = [one for one in found if _redis_id(one[1]) not in suspects]
        if self._stop.is_set():
            self._requeue(found)
            return [], False
        self._held.update(_redis_id(message) for _, message in found)
        if hand_out and found:
            with self._lock:
                self._inbox.extend(found)
                self._lock.notify_all()
        return found, bool(suspects)

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
            self._broker.emit_before("enqueue", due, None)
            # In one step, or a crash in between would double it.
            self._consumer.ripen(queue, _redis_id(message), due)
            # Only now: with Redis away it stays here for the next round.
            heapq.heappop(self._delayed)
            self._held.discard(_redis_id(message))
            self._broker.emit_after("enqueue", due, None)
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
                self.tasks.run(queue, message)
            finally:
                with self._lock:
                    self.busy -= 1
                    self.processed += 1

    def _finish(self) -> None:
        with self._lock:
            self._closing = True
            left, self._inbox = self._inbox, []
            self._lock.notify_all()
        self._requeue(left + [(queue, message) for _, _, queue, message in self._delayed])
        for thread in self._threads:
            # One that was given up may never end.
            while thread.is_alive() and thread.ident not in self.tasks.blocked_threads():
                try:
                    self._beat()
                except RedisTrouble:
                    pass  # whoever acknowledges tells of it
                thread.join(min(BEAT_SECONDS, 1.0))
        self._leave()

    def settle_blocked(self, patience: float) -> int:
        """The last act of a worker with blocked tasks: count them as failed tries; how many."""
        settled = self.tasks.settle_blocked(patience)
        self._leave()
        return settled

    def _leave(self) -> None:
        try:
            self._consumer.leave()
        except RedisTrouble:
            pass  # the reaper of another worker removes it

    def _requeue(self, messages: Sequence[tuple[str, Any]]) -> None:
        by_queue: dict[str, list[str]] = {}
        for queue, message in messages:
            by_queue.setdefault(queue, []).append(_redis_id(message))
        for queue, ids in by_queue.items():
            try:
                self._consumer.put_back(queue, ids)
            except RedisTrouble as error:
                warn("messages could not be handed back", queue=queue, count=len(ids), reason=str(error))


def _redis_id(message: MessageProxy) -> str:
    return str(message.options["redis_message_id"])

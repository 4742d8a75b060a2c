"""One thread that drives several connections, so that they do not fight for the interpreter.

With a thread for each, every system call hands the interpreter to another thread, often on another
core, and that costs more than the mail. Here the threads of the tickets only begin a run (connect,
first envelope) and take the steps that may wait; the mails themselves are sent by this one thread,
whichever connection has its replies.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field

from app.campaigns.batch_run import Steps, Wait
from app.mail.channel import Lost
from app.mail.transport import Connection
from app.mail.transport import Outcome as Answer

#: How often silent connections are looked at, in seconds: for their deadlines, and for being cut off.
TICK_SECONDS = 0.5


@dataclass
class _Task:
    """A run in the multiplexer's hands; `done` gets True when it ended, False when it wants a step alone."""

    steps: Steps
    connection: Connection
    done: Future[bool] = field(default_factory=Future)
    answer: Answer | None = None


class Multiplexer:
    """Its thread starts with the first run and ends with `close`. `shared`: there may be several runs at once."""

    def __init__(self, *, shared: bool) -> None:
        self._shared = shared
        self._new: deque[_Task] = deque()
        self._tasks: dict[int, _Task] = {}
        self._poll = select.epoll()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll.register(self._bell, select.EPOLLIN)
        self._closed = False
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def drive(self, steps: Steps, connection: Connection) -> Answer | None:
        """Take a run to its end; the caller waits, and takes the steps that may wait for the server itself."""
        while True:
            try:
                wait = next(steps)
            except StopIteration as end:
                answer: Answer | None = end.value
                return answer
            if wait is Wait.REPLIES and self._shared and connection.pipelining:
                task = _Task(steps, connection)
                self._hand_over(task)
                if task.done.result():
                    return task.answer

    def close(self) -> None:
        """End the thread; no run may be under way."""
        self._closed = True
        if self._thread:
            os.eventfd_write(self._bell, 1)
            self._thread.join()
        self._poll.close()
        os.close(self._bell)

    def _hand_over(self, task: _Task) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="multiplexer", daemon=True)
                self._thread.start()
        self._new.append(task)
        os.eventfd_write(self._bell, 1)

    def _run(self) -> None:
        look_at = 0.0
        while not self._closed:
            numbers = [number for number, _ in self._poll.poll(TICK_SECONDS if self._tasks else None)]
            if time.monotonic() > look_at:
                numbers += [number for number in self._tasks if number not in numbers]
                look_at = time.monotonic() + TICK_SECONDS
            for number in numbers:
                if number == self._bell:
                    os.eventfd_read(self._bell)
                    self._take_in()
                elif (task := self._tasks.get(number)) and task.connection.arrived and not self._advance(task):
                    self._forget(number)

    def _take_in(self) -> None:
        while self._new:
            task = self._new.popleft()
            try:
                number = task.connection.fileno()
                self._poll.register(number, select.EPOLLIN)
            except (Lost, OSError):
                # The line is gone already; its steps say so without waiting.
                task.done.set_result(False)
                continue
            self._tasks[number] = task
            # What came before we listened rings no bell when it has been read already.
            if task.connection.arrived and not self._advance(task):
                self._forget(number)

    def _advance(self, task: _Task) -> bool:
        """Take the next step; True when replies are waited for again."""
        try:
            if next(task.steps) is Wait.REPLIES and task.connection.gone is None:
                return True
            task.done.set_result(False)
        except StopIteration as end:
            task.answer = end.value
            task.done.set_result(True)
        except BaseException as error:
            task.done.set_exception(error)
        return False

    def _forget(self, number: int) -> None:
        del self._tasks[number]
        try:
            self._poll.unregister(number)
        except OSError:
            pass  # closed, and so gone by itself

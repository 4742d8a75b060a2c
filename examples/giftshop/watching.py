"""What both monitors share: a look now and then, and an alarm through the chat queue."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable

from actors.broker import broker
from app.errors import MailcrewError
from app.events import emit, start_logging, warn
from app.queues.broker import RedisTrouble
from app.queues.tickets import enqueue


def alarm(text: str) -> None:
    """Write it into the log, and have the chat told; without Redis the log alone has it."""
    warn("ALARM", text=text)
    try:
        enqueue(broker, "wechat-message", "send_wechat_message", [text])
    except RedisTrouble as error:
        warn("the chat could not be told", reason=str(error))


def watch(name: str, look: Callable[[float], Iterable[str]], seconds: float) -> int:
    """Look every so many seconds until told to stop, and alarm with what each look found."""
    start_logging()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    emit("monitor watches", monitor=name, seconds=seconds)
    while not stop.is_set():
        try:
            for text in look(time.monotonic()):
                alarm(text)
        except (MailcrewError, *RedisTrouble, OSError) as error:
            warn("this look failed; the next one tries again", monitor=name, reason=str(error))
        stop.wait(seconds)
    sys.stdout.flush()
    return 0

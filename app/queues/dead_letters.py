"""Dead letters: messages that failed for good, kept for a person to look at, replay or delete."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import redis
from dramatiq import Message
from dramatiq.errors import DecodeError

from app.queues import keys
from app.queues.broker import NAMESPACE
from app.queues.scripts import run_script

#: Older dead letters are deleted.
KEPT_MS = 7 * 86_400_000
#: Letters read, or deleted for their age, at a time.
PAGE = 500
#: The option in which a dead letter carries why it died.
REASON = "dead_reason"
LONGEST_REASON = 500
#: What a message has gathered on its way here, and a fresh start must not have.
GATHERED = (REASON, "retries", "traceback", "requeue_timestamp", "eta")


@dataclass(frozen=True)
class DeadLetter:
    """One dead letter; `message` is None when it cannot be read, `failed_at` is ms since 1970."""

    redis_id: str
    queue: str
    failed_at: int
    raw: bytes
    message: Message[Any] | None

    @property
    def id(self) -> str:
        """The id that the logs and whoever enqueued it know it by."""
        return self.message.message_id if self.message else self.redis_id

    @property
    def reason(self) -> str:
        """Why it died, as far as it was written down, in one line."""
        if self.message is None:
            return "cannot be read" if self.raw else "its message is gone"
        options = self.message.options
        if options.get(REASON):
            return " ".join(str(options[REASON]).split())
        lines = str(options.get("traceback") or "").strip().splitlines()
        return lines[-1].strip() if lines else "no reason was written down"

    @property
    def retries(self) -> int:
        found = self.message.options.get("retries") if self.message else 0
        return found if isinstance(found, int) else 0


def read_message(raw: bytes) -> Message[Any] | None:
    """The message, or None when it is none that a worker could acknowledge."""
    try:
        message: Message[Any] = Message.decode(raw)
    except DecodeError:
        return None
    return message if isinstance(message.options, dict) and "redis_message_id" in message.options else None


def with_reason(message: Message[Any], reason: str | None) -> bytes:
    """The message as a dead letter; empty when some middleware left what cannot be encoded."""
    try:
        return message.copy(options={REASON: reason[:LONGEST_REASON]} if reason else {}).encode()
    except (TypeError, ValueError):
        return b""


def dead_letters(client: redis.Redis, queue: str, start: int = 0) -> Iterator[DeadLetter]:
    """The dead letters of a queue from the `start`-th on, the oldest first, read page by page."""
    while page := _page(client, queue, start):
        yield from page
        start += len(page)


def _page(client: redis.Redis, queue: str, start: int) -> list[DeadLetter]:
    found: Any = client.zrange(keys.dead(queue), start, start + PAGE - 1, withscores=True)
    if not found:
        return []
    raws: Any = client.hmget(keys.dead_messages(queue), [id_ for id_, _ in found])
    return [
        DeadLetter(id_.decode(errors="replace"), queue, int(at), raw or b"", read_message(raw) if raw else None)
        for (id_, at), raw in zip(found, raws, strict=True)
    ]


def find_dead_letter(client: redis.Redis, queues: Iterable[str], id_: str) -> DeadLetter | None:
    """The dead letter with this id (the message's own, or that of its entry in Redis)."""
    names = list(queues)
    for queue in names:
        at = client.zscore(keys.dead(queue), id_)
        if at is not None:
            raw: Any = client.hget(keys.dead_messages(queue), id_) or b""
            return DeadLetter(id_, queue, int(at), raw, read_message(raw) if raw else None)
    return next((one for queue in names for one in dead_letters(client, queue) if one.id == id_), None)


def replay(client: redis.Redis, letter: DeadLetter) -> bool:
    """Enqueue a dead letter as if it were new; False when it cannot be read or is not there any more."""
    if letter.message is None:
        return False
    options = {name: value for name, value in letter.message.options.items() if name not in GATHERED}
    fresh: Message[Any] = Message(
        queue_name=letter.queue,
        actor_name=letter.message.actor_name,
        args=letter.message.args,
        kwargs=letter.message.kwargs,
        options={**options, "redis_message_id": letter.redis_id},
        message_id=letter.message.message_id,
        # The default is now: an age limit counts from here, or it would be dead again at once.
    )
    where = [
        keys.waiting(letter.queue), keys.messages(letter.queue), keys.dead(letter.queue),
        keys.dead_messages(letter.queue),
    ]  # fmt: skip
    return bool(run_script(client, "replay", where, [letter.redis_id, letter.raw, fresh.encode()]))


def delete(client: redis.Redis, letter: DeadLetter) -> bool:
    """Delete a dead letter; False when it is not there any more."""
    with client.pipeline(transaction=True) as pipe:
        pipe.zrem(keys.dead(letter.queue), letter.redis_id)
        pipe.hdel(keys.dead_messages(letter.queue), letter.redis_id)
        return bool(pipe.execute()[0])


def letters_of_now(client: redis.Redis, queue: str) -> Iterator[DeadLetter]:
    """Every dead letter there is now, each once, while the caller removes them.

    Those the caller leaves are stepped over; those that die meanwhile are not waited for.
    """
    left, end = 0, int(client.zcard(keys.dead(queue)))
    while end > 0 and (page := _page(client, queue, left)[:end]):
        yield from page
        end -= len(page)
        left += sum(score is not None for score in client.zmscore(keys.dead(queue), [one.redis_id for one in page]))


def trim(client: redis.Redis, queues: Iterable[str], kept_ms: int = KEPT_MS) -> int:
    """Delete dead letters that are too old, a page of each queue at most; how many."""
    return sum(
        int(run_script(client, "trim", [keys.dead(queue), keys.dead_messages(queue)], [kept_ms, PAGE]))
        for queue in queues
    )


def queues_with_dead_letters(client: redis.Redis) -> set[str]:
    """The queues that have any, whoever serves them; walks over all keys, so it is for a person's command."""
    start, end = f"{NAMESPACE}:", ".XQ"
    found = client.scan_iter(match=f"{start}*{end}", count=1000, _type="zset")
    return {key.decode(errors="replace").removeprefix(start).removesuffix(end) for key in found}

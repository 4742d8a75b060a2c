"""The journal: what a worker has tried, written where `kill -9` cannot take it back.

One file per worker process, preallocated, mapped into memory and locked (`flock`) for the life of
the process. Writing a byte costs nothing measurable, and the kernel keeps it when the process
dies. Whoever gets the lock knows that the owner is dead and may read what it left.

    file   header  MAGIC, slots, pid, start time of the process, last beat (monotonic clock)
           slot    one per connection:
                   token (16 bytes; zero: nothing in hand), campaign, batch, count
                   CAPACITY subscriber ids, CAPACITY state bytes, CAPACITY notes
                   the server that is in use now
           note    server, instant, attempt flag, reply: written before the state byte it explains

Slots are reused: token cleared, bytes cleared, batch written, token written, and only then is the
lease committed with it. So a slot whose token is not its batch's says nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import secrets
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from app.errors import Unavailable

MAGIC = b"mcjrnl01"
#: The largest batch a slot can hold: SEND_BATCH_SIZE's upper bound.
CAPACITY = 1000

_HEADER = struct.Struct("<8sIIQ")
_BEAT = struct.Struct("<Q")
_BEAT_AT = _HEADER.size
_BATCH = struct.Struct("<QQI")
_NOTE = struct.Struct("<QQBH")
_TOKEN = 16
_HEADER_SIZE = 64
_NOTE_SIZE = 448
_REPLY_SIZE = _NOTE_SIZE - _NOTE.size
_IDS = _TOKEN + _BATCH.size
_STATES = _IDS + 8 * CAPACITY
_NOTES = _STATES + CAPACITY
_SERVER = struct.Struct("<Q")
_SERVER_AT = _NOTES + CAPACITY * _NOTE_SIZE
_SLOT_SIZE = -(-(_SERVER_AT + _SERVER.size) // 4096) * 4096
_NO_TOKEN = bytes(_TOKEN)
_NO_STATES = bytes(CAPACITY)


class MailState(IntEnum):
    """One byte per mail. From SENDING on, the server may have all of it: only a reply tells."""

    UNTRIED = 0
    COMPOSING = 1
    SENDING = 2
    SENT = 3
    DEFERRED = 4
    FAILED = 5
    SKIPPED = 6
    IN_DOUBT = 7


@dataclass(frozen=True)
class Note:
    """What is known of one mail besides its state; `tried_at` in ms since 1970 UTC."""

    server_id: int
    tried_at: int
    attempt: bool
    reply: str


@dataclass(frozen=True)
class Entry:
    subscriber_id: int
    state: MailState
    note: Note


@dataclass(frozen=True)
class SlotRecord:
    """A slot as its dead owner left it."""

    token: str
    campaign_id: int
    batch: int
    entries: list[Entry]
    #: Over which a mail in state SENDING went; 0 when nothing was sent.
    server_id: int = 0


class Slot:
    """One connection's place in the journal. Not for several threads at once."""

    def __init__(self, memory: mmap.mmap, start: int) -> None:
        self._memory = memory
        self._start = start
        self._states = start + _STATES

    @property
    def is_clear(self) -> bool:
        """True when the database has everything that was done in this slot."""
        return self._memory[self._start : self._start + _TOKEN] == _NO_TOKEN

    def open(self, token: str) -> None:
        """Make the slot ready for a lease that will be committed with `token`."""
        self.clear()
        self._memory[self._states : self._states + CAPACITY] = _NO_STATES
        self._memory[self._start + _TOKEN : self._start + _IDS] = bytes(_BATCH.size)
        self.over(0)
        self._memory[self._start : self._start + _TOKEN] = bytes.fromhex(token)

    def fill(self, campaign_id: int, batch: int, subscriber_ids: Sequence[int]) -> None:
        """Say which mails the state bytes are about. Until then all of them are untried."""
        ids = struct.pack(f"<{len(subscriber_ids)}Q", *subscriber_ids)
        self._memory[self._start + _IDS : self._start + _IDS + len(ids)] = ids
        _BATCH.pack_into(self._memory, self._start + _TOKEN, campaign_id, batch, len(subscriber_ids))

    def over(self, server_id: int) -> None:
        """Say over which server the mails go from now on."""
        _SERVER.pack_into(self._memory, self._start + _SERVER_AT, server_id)

    def mark(self, index: int, state: MailState) -> None:
        """Write down, before doing it, what is about to happen to mail `index`."""
        self._memory[self._states + index] = state

    def record(self, index: int, state: MailState, server_id: int, tried_at: int, attempt: bool, reply: str) -> None:
        """Write down how mail `index` ended: the note first, then the byte that makes it count."""
        at = self._start + _NOTES + index * _NOTE_SIZE
        text = reply.encode("utf-8", "replace")[:_REPLY_SIZE]
        _NOTE.pack_into(self._memory, at, server_id, tried_at, attempt, len(text))
        self._memory[at + _NOTE.size : at + _NOTE.size + len(text)] = text
        self._memory[self._states + index] = state

    def clear(self) -> None:
        """Forget the lease. Only after its outcomes are committed."""
        self._memory[self._start : self._start + _TOKEN] = _NO_TOKEN


class Journal:
    """This process's journal; its lock is this process's proof of life."""

    def __init__(self, path: Path, slots: int) -> None:
        self.name = path.name
        self._path = path
        # Under its own name only when it is locked: a sweep would take it for a dead worker's.
        unlocked = path.with_suffix(".new")
        self._fd = os.open(unlocked, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            size = _HEADER_SIZE + slots * _SLOT_SIZE
            # Room for all of it now: a page that cannot be written later would be a SIGBUS.
            os.posix_fallocate(self._fd, 0, size)
            self._memory = mmap.mmap(self._fd, size)
            _HEADER.pack_into(self._memory, 0, MAGIC, slots, os.getpid(), process_start(os.getpid()))
            self.beat()
            unlocked.rename(path)
        except OSError:
            unlocked.unlink(missing_ok=True)
            os.close(self._fd)
            raise
        self.slots = [Slot(self._memory, _HEADER_SIZE + i * _SLOT_SIZE) for i in range(slots)]

    @classmethod
    def create(cls, directory: Path, slots: int) -> Journal:
        """A new journal in `directory`; raises Unavailable when there is no room for it."""
        unique = f"{_home_id(directory)}{secrets.token_hex(4)}"
        name = f"{host_name()}~{boot_id()}~{os.getpid()}~{unique}.journal"
        try:
            return cls(directory / name, slots)
        except OSError as error:
            raise Unavailable(f"no room for a journal in {directory}: {error}; nothing can be sent") from error

    def beat(self) -> None:
        """Show that this process runs: a stopped one does not. All of a host share this clock.

        The one that stands still while the machine is suspended: nobody could beat then, and who
        wakes first must not take the others for stopped.
        """
        _BEAT.pack_into(self._memory, _BEAT_AT, time.monotonic_ns())

    def close(self, *, remove: bool) -> None:
        """Unlock; with `remove` also delete the file (nothing in it is needed any more)."""
        if remove:
            self._path.unlink(missing_ok=True)
        self._memory.close()
        os.close(self._fd)


@dataclass(frozen=True)
class Owner:
    """Who wrote a journal: the process, its start in clock ticks since boot (proc(5)), its last beat.

    `silent_seconds`: how long ago it last showed that it runs.
    """

    pid: int
    started: int
    silent_seconds: float


def read_owner(path: Path) -> Owner:
    """The owner written in a journal's header, alive or dead."""
    with path.open("rb") as file:
        _, _, pid, started = _HEADER.unpack(file.read(_HEADER.size))
        (beat,) = _BEAT.unpack(file.read(_BEAT.size))
    return Owner(pid, started, (time.monotonic_ns() - beat) / 1e9)


def read_dead(path: Path) -> list[SlotRecord] | None:
    """The slots of a journal whose owner is dead; None while the owner lives (or is stopped).

    Raises FileNotFoundError when there is no such journal.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        return _read_slots(os.pread(fd, os.fstat(fd).st_size, 0))
    finally:
        os.close(fd)


def _read_slots(data: bytes) -> list[SlotRecord]:
    if len(data) < _HEADER_SIZE or data[:8] != MAGIC:
        return []
    slots = _HEADER.unpack_from(data)[1]
    starts = [_HEADER_SIZE + i * _SLOT_SIZE for i in range(slots)]
    return [_read_slot(data, s) for s in starts if data[s : s + _TOKEN] != _NO_TOKEN and s + _SLOT_SIZE <= len(data)]


def _read_slot(data: bytes, start: int) -> SlotRecord:
    campaign_id, batch, count = _BATCH.unpack_from(data, start + _TOKEN)
    count = min(count, CAPACITY)
    ids = struct.unpack_from(f"<{count}Q", data, start + _IDS)
    entries = []
    for index, subscriber_id in enumerate(ids):
        at = start + _NOTES + index * _NOTE_SIZE
        server_id, tried_at, attempt, length = _NOTE.unpack_from(data, at)
        reply = data[at + _NOTE.size : at + _NOTE.size + min(length, _REPLY_SIZE)].decode("utf-8", "replace")
        state = MailState(data[start + _STATES + index])
        entries.append(Entry(subscriber_id, state, Note(server_id, tried_at, bool(attempt), reply)))
    (server_id,) = _SERVER.unpack_from(data, start + _SERVER_AT)
    return SlotRecord(data[start : start + _TOKEN].hex(), campaign_id, batch, entries, server_id)


def host_name() -> str:
    """This host's name, fit for a file name."""
    return "".join(c if c.isalnum() or c in "-." else "_" for c in socket.gethostname())[:80] or "localhost"


def boot_id() -> str:
    """The kernel's id of this boot, its first 8 digits: a journal of another boot proves nothing."""
    return Path("/proc/sys/kernel/random/boot_id").read_text()[:8]


@dataclass(frozen=True)
class JournalName:
    """What a journal's name tells of its owner."""

    host: str
    boot: str

    @property
    def is_of_this_boot(self) -> bool:
        return self.boot == boot_id()


def name_parts(journal: str) -> JournalName:
    """The host and boot in a journal's name."""
    host, _, rest = journal.partition("~")
    return JournalName(host, rest.partition("~")[0])


def of_this_life(journal: str, directory: Path) -> bool:
    """Whether a journal was made in `directory` since this host booted: if it is not there, it was deleted.

    Another home or another machine with our host's name has its journals elsewhere, and its owners may live.
    """
    made_here = journal.rpartition("~")[2].startswith(_home_id(directory))
    return made_here and name_parts(journal) == JournalName(host_name(), boot_id())


def _home_id(directory: Path) -> str:
    return hashlib.sha256(os.fsencode(directory.resolve())).hexdigest()[:8]


def process_start(pid: int) -> int:
    """When a process started, in clock ticks since boot; 0 when it is not there. Tells reused pids apart."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[19])

"""The journal proves what was tried, to whoever holds proof that its owner is dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from app.campaigns.journal import Journal, MailState, read_dead, read_owner
from app.errors import Unavailable

TOKEN = "0f" * 16


def test_a_living_owner_lets_nobody_read(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path, 1)
    assert read_dead(tmp_path / journal.name) is None
    journal.close(remove=False)
    assert read_dead(tmp_path / journal.name) == []


def test_what_was_recorded_is_read_back(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path, 2)
    slot = journal.slots[1]
    slot.open(TOKEN)
    slot.fill(7, 3, [11, 12, 13])
    slot.record(0, MailState.SENT, 5, 1_790_000_000_000, True, "250 ok 你好")
    slot.mark(1, MailState.SENDING)
    journal.close(remove=False)
    (found,) = read_dead(tmp_path / journal.name) or []
    assert (found.token, found.campaign_id, found.batch) == (TOKEN, 7, 3)
    assert [(e.subscriber_id, e.state) for e in found.entries] == [
        (11, MailState.SENT), (12, MailState.SENDING), (13, MailState.UNTRIED),
    ]  # fmt: skip
    note = found.entries[0].note
    assert (note.server_id, note.tried_at, note.attempt, note.reply) == (5, 1_790_000_000_000, True, "250 ok 你好")


def test_a_slot_used_again_remembers_nothing_of_the_last_lease(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path, 1)
    slot = journal.slots[0]
    slot.open(TOKEN)
    slot.fill(1, 1, [1, 2, 3])
    slot.mark(2, MailState.IN_DOUBT)
    slot.open("ab" * 16)
    journal.close(remove=False)
    (found,) = read_dead(tmp_path / journal.name) or []
    assert (found.token, found.entries) == ("ab" * 16, [])


def test_a_cleared_slot_says_nothing(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path, 1)
    journal.slots[0].open(TOKEN)
    assert not journal.slots[0].is_clear
    journal.slots[0].clear()
    journal.close(remove=False)
    assert read_dead(tmp_path / journal.name) == []


def test_a_killed_owner_leaves_all_it_wrote(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from app.campaigns.journal import Journal, MailState\n"
        f"j = Journal.create(Path({str(tmp_path)!r}), 1); s = j.slots[0]; s.open({TOKEN!r}); s.fill(1, 2, [9])\n"
        "s.mark(0, MailState.SENDING); print(j.name, flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    path = tmp_path / process.stdout.readline().strip()
    assert read_owner(path).pid == process.pid
    os.kill(process.pid, signal.SIGSTOP)
    assert read_dead(path) is None, "stopped is not dead"
    process.kill()
    process.wait()
    process.stdout.close()
    (found,) = read_dead(path) or []
    assert found.entries[0].state is MailState.SENDING


def test_without_room_for_a_journal_there_is_no_sending(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no room for a journal"):
        Journal.create(tmp_path / "missing", 1)

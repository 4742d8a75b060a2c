"""Several hosts on one database: each settles its own, and for one that is gone any other does."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

import pytest

import app.campaigns.sweep as sweeping
from app.campaigns.batches import Lease, lease_next, new_token
from app.campaigns.hosts import hosts_at_work, settle_dead_host
from app.campaigns.journal import Journal, MailState, boot_id, host_name
from app.campaigns.lifecycle import find_campaign
from app.campaigns.mails import mails_of
from app.campaigns.outcomes import Outcome, write_outcomes
from app.campaigns.service import SendService
from app.campaigns.settling import all_unknown, leases_of, settle
from app.campaigns.sweep import sweep
from app.campaigns.unknown import resend_unknown
from app.cli import main as mailcrew
from app.clock import since_boot
from app.config import Settings
from app.db import Db
from app.errors import NotFound, Refused
from app.mail.servers import add_server
from app.models.states import RecipientState
from app.models.tables import Batch, Campaign
from tests.elsewhere import elsewhere, journal_of
from tests.sending import NOW, add_list, add_people, draft, expand, send_all, start
from tests.smtp_faults import Event, Fault, drop
from tests.smtp_server import SmtpServer

GONE = 3600


def prepare(db: Db, settings: Settings, port: int, size: int = 100) -> int:
    """An expanded campaign to ten people."""
    add_list(db, "all", add_people(db, 10))
    add_server(name="sink", host="127.0.0.1", port=port, tls="none", now=NOW)
    campaign_id = draft(db, ["all"])
    start(db, campaign_id)
    expand(db, Settings(**{**settings.__dict__, "send_batch_size": size}), campaign_id)
    return campaign_id


@pytest.fixture
def campaign(db: Db, settings: Settings) -> int:
    """Ten people in five ready batches; nobody sends them."""
    return prepare(db, settings, 25, size=2)


def take(db: Db, journal: str) -> Lease:
    lease = lease_next(
        db, token=new_token(), journal=journal, only=None, now=db.now_ms(), monotonic=0.0, lease_seconds=30
    )
    assert lease is not None
    return lease


def run_sweep(db: Db, settings: Settings, seconds_later: int) -> sweeping.Swept:
    later = db.now_ms() + seconds_later * 1000
    return sweep(db, settings.journals, later, settings.lease_seconds, lambda _: None, GONE)


def states(db: Db) -> list[str]:
    return [str(row[0]) for row in db.rows("SELECT state FROM recipients ORDER BY subscriber_id")]


def test_the_leases_of_another_host_become_unknown_when_it_has_been_silent_for_long(
    db: Db, settings: Settings, campaign: int, tmp_path: Path
) -> None:
    journal = journal_of("mail-3", tmp_path / "there")
    take(db, journal.name)
    assert run_sweep(db, settings, GONE).settled == 0
    assert states(db) == ["pending"] * 10
    assert run_sweep(db, settings, GONE + 31).settled == 1
    assert states(db) == ["unknown"] * 2 + ["pending"] * 8
    reason = str(db.value("SELECT reason FROM recipients WHERE state = 'unknown'"))
    assert "mail-3" in reason
    assert "not sent again" in reason
    journal.close(remove=True)


def test_a_host_that_comes_back_may_still_say_what_it_had_sent(
    db: Db, settings: Settings, campaign: int, tmp_path: Path
) -> None:
    journal = journal_of("mail-3", tmp_path / "there")
    lease = take(db, journal.name)
    first, second = (mail.subscriber_id for mail in mails_of(db, lease))
    run_sweep(db, settings, GONE + 31)
    late = [Outcome(first, RecipientState.SENT, 1, "250 ok", 5), Outcome(second, RecipientState.PENDING, 1, "450", 5)]
    assert not write_outcomes(db, campaign, lease.number, lease.token, late, now=6, ready_at=0)
    assert states(db) == ["sent", "unknown"] + ["pending"] * 8
    journal.close(remove=True)


@pytest.mark.parametrize("boot", ["0badb007", ""], ids=["rebooted", "same boot"])
def test_a_journal_found_again_corrects_what_was_settled_without_it(
    db: Db, settings: Settings, campaign: int, boot: str
) -> None:
    journal = journal_of(host_name(), settings.journals, boot or boot_id())
    token, slot = new_token(), journal.slots[0]
    slot.open(token)
    lease = lease_next(
        db, token=token, journal=journal.name, only=None, now=db.now_ms(), monotonic=0.0, lease_seconds=30
    )
    assert lease is not None
    slot.fill(campaign, lease.number, [mail.subscriber_id for mail in mails_of(db, lease)])
    slot.record(0, MailState.SENT, 1, 1000, True, "250 ok")
    slot.mark(1, MailState.SENDING)
    later = db.now_ms() + (GONE + 31) * 1000
    for expired in leases_of(db, journal.name, later, 10):
        assert settle(db, expired, all_unknown(db, expired, "gone", later), later)
    assert states(db)[:2] == ["unknown", "unknown"]
    journal.close(remove=False)
    run_sweep(db, settings, GONE + 32)
    assert states(db) == ["sent", "unknown"] + ["pending"] * 8
    assert (Batch.get(Batch.number == lease.number).sent, list(settings.journals.iterdir())) == (1, [])


def test_leases_that_must_wait_do_not_stand_before_those_that_need_not(
    db: Db, settings: Settings, campaign: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "MAX_LEASES", 1)
    for number in range(3):
        take(db, f"mail-{number}~0badb007~1~00000000.journal")
    own = Journal.create(settings.journals, 1)
    lease = take(db, own.name)
    own.close(remove=False)
    assert run_sweep(db, settings, 31).settled == 1
    assert Batch.get(Batch.number == lease.number).state == "ready"


def test_a_missing_journal_of_another_home_is_not_taken_for_lost(
    db: Db, settings: Settings, campaign: int, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = Journal.create(tmp_path / "other", 1)
    take(db, other.name)
    assert run_sweep(db, settings, 31).settled == 0
    assert run_sweep(db, settings, GONE + 31).settled == 1
    other.close(remove=True)


def test_a_pass_settles_and_finishes_no_more_than_its_share(
    db: Db, settings: Settings, campaign: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "MAX_LEASES", 2)
    own = Journal.create(settings.journals, 1)
    for _ in range(3):
        take(db, own.name)
    own.close(remove=False)
    assert [run_sweep(db, settings, 31).settled for _ in range(3)] == [2, 1, 0]


def test_many_campaigns_are_finished_in_shares(
    db: Db, settings: Settings, campaign: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "MAX_CAMPAIGNS", 2)
    others = [draft(db, ["all"]) for _ in range(3)]
    for one in others:
        start(db, one)
        expand(db, settings, one)
    Batch.update(state="done").where(Batch.campaign_id != campaign).execute()
    assert [run_sweep(db, settings, 31).finished for _ in range(3)] == [2, 1, 0]
    assert Campaign.get_by_id(campaign).status == "sending"


def test_two_hosts_at_once_settle_only_their_own_and_a_third_ones_once(
    db: Db, settings: Settings, campaign: int
) -> None:
    batches = {host: take(db, f"{host}~0badb007~1~00000000.journal").number for host in ("host-a", "host-b", "gone")}
    db.run("UPDATE batches SET lease_until = lease_until - ? WHERE number = ?", GONE * 1000, batches["gone"])
    db.close()
    # An own journal each: a lease of mails nobody tried is ready again, where a guess would say unknown.
    for host in ("host-a", "host-b"):
        journal_of_home = settings.home.parent / host / "state" / "journals"
        journal_of_home.mkdir(parents=True)
        made = Journal(journal_of_home / f"{host}~{boot_id()}~1~00000000.journal", 1)
        made.close(remove=False)
        db.run("UPDATE batches SET journal = ? WHERE number = ?", made.name, batches[host])
    both = [elsewhere(host, settings, "sweep", 31, 20) for host in ("host-a", "host-b")]
    for one in both:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    for one in both:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()
    said = [one.communicate(timeout=60)[0] for one in both]
    assert sorted(int(text) for text in said) == [1, 2]
    found = {
        number: (state, unknown) for number, state, unknown in db.rows("SELECT number, state, unknown FROM batches")
    }
    assert found[batches["host-a"]] == found[batches["host-b"]] == ("ready", 0)
    assert found[batches["gone"]] == ("done", 2)


class GivesUp:
    """The server's side of a halted client: at the third mail it waits for `go`, then hangs up on it."""

    def __init__(self) -> None:
        self.reached, self.go = threading.Event(), threading.Event()

    def __call__(self, event: Event) -> Fault | None:
        if (event.verb, event.connection, event.nth) != ("DATA", 1, 3):
            return None
        self.reached.set()
        self.go.wait(60)
        return drop()


def settle_all(db: Db) -> None:
    """What another host does when this one has been silent for too long."""
    later = db.now_ms() + GONE * 1_000_000
    for (journal,) in db.rows("SELECT DISTINCT journal FROM batches WHERE state = 'leased'"):
        for lease in leases_of(db, str(journal), later, 10):
            assert settle(db, lease, all_unknown(db, lease, "gone", later), later)


def test_a_worker_whose_lease_was_settled_while_it_was_halted_sends_nothing_over_a_new_connection(
    db: Db, settings: Settings
) -> None:
    plan = GivesUp()
    with SmtpServer(plan=plan) as server:
        prepare(db, settings, server.port)
        service = SendService(db, settings, threads=1, stop=threading.Event())
        # Without its keeper: this is about the instant before that one looks.
        service._keeper.close()
        worker = threading.Thread(target=service.work)
        worker.start()
        assert plan.reached.wait(20)
        settle_all(db)
        plan.go.set()
        worker.join(30)
        service.close()
        assert server.connections == 2
        assert sorted(server.counts().values()) == [1, 1]
    assert sorted(states(db)) == ["sent"] * 2 + ["unknown"] * 8, "and what it had sent is told late"


def test_a_machine_that_was_suspended_past_its_lease_sends_no_further_mail_on_a_connection_that_lived(
    db: Db, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept = threading.Event()

    def suspend(event: Event) -> Fault | None:
        if (event.verb, event.nth) == ("DATA", 3):
            slept.set()
        return None

    awake = since_boot
    monkeypatch.setattr("app.campaigns.delivery.since_boot", lambda: awake() + 7200 * slept.is_set())
    with SmtpServer(plan=suspend) as server:
        prepare(db, settings, server.port)
        service = SendService(db, settings, threads=1, stop=threading.Event())
        # It would renew a lease that nobody settled, as it should.
        service._keeper.close()
        service.work()
        service.close()
        assert sorted(server.counts().values()) == [1, 1]
    assert sorted(states(db)) == ["pending"] * 8 + ["sent"] * 2


def test_a_host_halted_until_others_settled_and_a_person_resent_sends_nothing_twice(db: Db, settings: Settings) -> None:
    plan = GivesUp()
    with SmtpServer(plan=plan) as server:
        campaign_id = prepare(db, settings, server.port)
        db.close()
        halted = elsewhere("halted", settings, "send")
        assert plan.reached.wait(60)
        os.kill(halted.pid, signal.SIGSTOP)
        run_sweep(db, settings, GONE + 601)
        assert states(db) == ["unknown"] * 10
        first_two = set(server.counts())
        assert resend_unknown(db, find_campaign(campaign_id)).decided == 10
        assert send_all(db, settings) == 10
        plan.go.set()
        os.kill(halted.pid, signal.SIGCONT)
        halted.communicate(timeout=60)
        counts = server.counts()
    assert {name for name, count in counts.items() if count == 2} == first_two, "those the person chose to send again"
    assert len(counts) == 10
    assert states(db) == ["sent"] * 10
    assert Batch.get().sent == 10


def test_a_person_may_say_that_a_host_is_dead(
    db: Db, settings: Settings, campaign: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lease = take(db, "mail-3~0badb007~1~00000000.journal")
    take(db, f"{host_name()}~{boot_id()}~1~00000000.journal")
    assert [(one.host, one.leases, one.mails) for one in hosts_at_work(db) if one.host == "mail-3"] == [
        ("mail-3", 1, 2)
    ]
    with pytest.raises(Refused, match="renewed its leases lately"):
        settle_dead_host(db, "mail-3", db.now_ms())
    with pytest.raises(Refused, match="is this host"):
        settle_dead_host(db, host_name(), db.now_ms() + 31_000)
    with pytest.raises(NotFound, match="mail-3"):
        settle_dead_host(db, "mail-4", db.now_ms())
    db.run("UPDATE batches SET lease_until = 1 WHERE number = ?", lease.number)
    monkeypatch.setattr("app.cli.hosts.open_home", lambda: (settings, db))
    assert mailcrew.main(["hosts", "list", "--json"]) == 0
    assert {one["host"] for one in json.loads(capsys.readouterr().out)} == {"mail-3", host_name()}
    assert mailcrew.main(["hosts", "list"]) == 0
    assert "silent" in capsys.readouterr().out
    assert mailcrew.main(["hosts", "gone", "mail-3"]) == 0
    assert "2 mails that mail-3 had in hand are unknown" in capsys.readouterr().out
    assert states(db).count("unknown") == 2
    assert mailcrew.main(["hosts", "gone", "mail-3"]) == 1

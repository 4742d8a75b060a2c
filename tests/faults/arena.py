"""One run of one row: a home, its services, its workers, a campaign, the faults, and the count at the end."""

from __future__ import annotations

import json
import os
import resource
import shutil
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from app.campaigns.lifecycle import schedule_campaign
from app.config import Settings, make_home, read_settings
from app.db import Db, connect, migrate
from app.db.connection import DatabaseTrouble
from app.models import tables
from app.queues.broker import RedisTrouble, make_broker
from app.queues.tickets import enqueue
from tests.faults.daemons import MariaDB, Redis
from tests.faults.disks import mount
from tests.faults.fleet import SCHEDULER, Fleet, Seat
from tests.faults.matrix import Form, Row, Skipped
from tests.faults.server import CountingServer
from tests.faults.stack import CONNECTIONS, StackFleet
from tests.faults.verdict import Result, count
from tests.sending import NOW, add_list, add_people, add_test_server, draft

TICK_SECONDS = 2.0
OUR_VARIABLES = {"MAILCREW_HOME", "DATABASE_URL", "REDIS_URL"}
#: The models and the broker are global, so that campaigns are made one after another even where runs overlap.
_preparing = threading.Lock()


class Arena:
    """What a row's faults may touch."""

    def __init__(self, row: Row, form: Form, without: str | None) -> None:
        self.row, self.form, self.without = row, form, without
        self.home = Path(tempfile.mkdtemp(prefix="mcf-"))
        self.over = threading.Event()
        self.kinds: Counter[str] = Counter()
        #: What went wrong that the count cannot show.
        self.complaints: list[str] = []
        self.last_fault = 0.0
        #: Where the database's files are.
        self.disk = self.home / "data"
        self.mariadb: MariaDB | None = None
        self.redis: Redis
        self.server: CountingServer
        self.fleet: Fleet | StackFleet
        self.settings: Settings
        self.db: Db
        self.campaign_id = 0
        self.calm_at = time.monotonic() + self._faults_for

    # -- what faults use ---------------------------------------------------------------------------

    @property
    def progress(self) -> float:
        return (len(self.server.accepted) + len(self.server.refused)) / self.form.recipients

    def going(self) -> bool:
        """Whether faults are still wanted."""
        if self.over.is_set() or time.monotonic() > self.calm_at:
            return False
        return self.progress < self.row.calm_at

    def wait(self, seconds: float) -> bool:
        """Let time pass; False when the run ended meanwhile."""
        return not self.over.wait(seconds)

    def wait_for(self, progress: float) -> bool:
        """Wait until this share of the recipients has been answered; False when the run ended before."""
        while not self.over.is_set():
            if self.progress >= progress:
                return True
            time.sleep(0.02)
        return False

    def fault(self, kind: str = "") -> None:
        """Note that a fault happens now; `kind`: the row's only one when not said."""
        self.kinds[kind or self.row.name] += 1
        self.last_fault = time.monotonic()

    def send_ticks(self, times: int = 1) -> None:
        """What the scheduler does, every two seconds instead of every minute."""
        try:
            for _ in range(times):
                enqueue(self._broker, "periodic", "start_campaigns")
        except RedisTrouble:
            pass  # the next tick catches up

    # -- the run -----------------------------------------------------------------------------------

    def run(self) -> Result:
        began, busy = time.monotonic(), _cpu_seconds()
        result = self._run()
        # Children count once they have ended, so this is asked after everything has.
        result.cores = round((_cpu_seconds() - busy) / (time.monotonic() - began), 2)
        return result

    @property
    def faults(self) -> int:
        return self.kinds.total()

    @property
    def _faults_for(self) -> float:
        return self.form.faults_for or self.form.deadline / 2

    def _run(self) -> Result:
        with ExitStack() as stack:
            if not os.environ.get("FAULTS_KEEP"):
                stack.callback(shutil.rmtree, self.home, ignore_errors=True)
            try:
                with _preparing:
                    self._prepare(stack)
            except (Skipped, FileNotFoundError) as reason:
                return Result.skipped(self.row, self.form, str(reason))
            stack.enter_context(self.fleet)
            stack.callback(self.over.set)
            threads = [threading.Thread(target=t, daemon=True) for t in (self._keep_ticking, self._harm)]
            for thread in threads:
                thread.start()
            self.calm_at = time.monotonic() + self._faults_for
            self._await_end(time.monotonic() + self.form.deadline)
            ended = time.monotonic()
            self.over.set()
            for thread in threads:
                thread.join(60)
            self.fleet.wake()
            time.sleep(1)  # what a worker that was stopped does now would be too late to be right
            self.db.close()  # this connection may have been the victim of a fault
            self.last_fault = max(self.last_fault, self._injected_last())
            return count(self, ended)

    def _prepare(self, stack: ExitStack) -> None:
        self.disk.mkdir()
        if self.row.disk:
            stack.callback(mount(self.disk, self.row.disk))
        url = f"sqlite:///{self.disk / 'mailcrew.db'}"
        if self.form.database == "mysql":
            self.mariadb = MariaDB(self.home, self.disk)
            stack.callback(self.mariadb.end)
            self.mariadb.start()
            url = self.mariadb.url
        names = {"MAILCREW_HOME": str(self.home), "DATABASE_URL": url}
        if not self.row.supervised:
            self.redis = Redis(self.home)
            stack.callback(self.redis.end)
            self.redis.start()
            names["REDIS_URL"] = self.redis.url
        self.settings = read_settings(names, root=self.home)
        make_home(self.settings)
        if self.row.prepare:
            stack.callback(self.row.prepare(self))
        self._broker = make_broker(self.settings.redis_url)
        self.db = connect(url)
        stack.callback(self.db.close)
        migrate(self.db)
        tables.bind(self.db)
        connections = CONNECTIONS if self.row.supervised else self.form.connections
        pace = self.form.seconds * connections / self.form.recipients
        self.server = CountingServer(pace, self.row.misdeed or (lambda _: None), self.fault)
        stack.enter_context(self.server)
        self._create_campaign()
        environ = self._environ(names)
        if self.row.supervised:
            self.fleet = StackFleet(self.home, environ)
        else:
            self.fleet = Fleet(self.settings.logs, environ, self._seats())

    def _create_campaign(self) -> None:
        people = add_people(self.db, self.form.recipients)
        size = len(people)
        add_list(self.db, "first", people[: size * 6 // 10])
        add_list(self.db, "second", people[size * 4 // 10 :])
        add_list(self.db, "third", people[::3])
        add_test_server(self.server)
        if self.row.servers == 2:
            add_test_server(self.server, "spare")
        self.campaign_id = draft(self.db, ["first", "second", "third"])
        now = NOW
        if self.row.in_real_time:
            now = (self.db.now_ms() // 60_000 + 1) * 60_000
        schedule_campaign(self.db, self.campaign_id, now, now)

    def _environ(self, names: dict[str, str]) -> dict[str, str]:
        orders = {**self.row.orders(self.form), **({"without": self.without} if self.without else {})}
        environ = {k: v for k, v in os.environ.items() if k not in OUR_VARIABLES}
        batch = max(10, min(100, self.form.recipients // 40))
        return {
            **environ, **names, "LEASE_SECONDS": "5", "SEND_BATCH_SIZE": str(batch), "FAULTS": json.dumps(orders),
            "RETRY_MINUTES": "1,1,2,2",
            "EXPAND_BATCH_SIZE": str(max(100, self.form.recipients // 20)), **self.row.environ,
        }  # fmt: skip

    def _seats(self) -> list[Seat]:
        form, row = self.form, self.row
        sends = [Seat(f"send_{i:02}", "send", form.connections // form.workers) for i in range(form.workers)]
        expands = [Seat(f"expand_{i:02}", "expand", 1) for i in range(row.expanders)]
        ticks = [Seat(f"periodic_{i:02}", "periodic", 1) for i in range(row.tickers)]
        return sends + expands + ticks + [Seat(f"scheduler_{i:02}", SCHEDULER, 1) for i in range(row.schedulers)]

    def _keep_ticking(self) -> None:
        while not self.over.is_set() and not self.row.in_real_time:
            self.send_ticks()
            self.over.wait(TICK_SECONDS)

    def _harm(self) -> None:
        if self.row.harm:
            self.row.harm(self)

    def _await_end(self, deadline: float) -> None:
        while time.monotonic() < deadline:
            if not self.going():
                (self.home / "calm").touch()
                self.server.calm.set()
            if self.status() in ("sent", "failed", "cancelled"):
                return
            time.sleep(0.1)

    def status(self) -> str:
        """The campaign's status, or `unreadable` while the database is away."""
        try:
            return str(self.db.value("SELECT status FROM campaigns WHERE id = ?", self.campaign_id))
        except DatabaseTrouble:
            self.db.close()
            return "unreadable"

    def injected(self) -> list[list[str]]:
        """The faults that the workers did to themselves: kind and instant."""
        path = self.home / "injected"
        return [line.rsplit(" ", 1) for line in path.read_text().splitlines()] if path.exists() else []

    def _injected_last(self) -> float:
        found = self.injected()
        self.kinds.update(kind for kind, _ in found)
        return max((float(at) for _, at in found), default=0.0)


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def run_row(row: Row, form: Form, *, without: str | None = None) -> Result:
    """Run a row once."""
    return Arena(row, form, without).run()

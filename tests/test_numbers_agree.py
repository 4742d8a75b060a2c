"""At rest a page, the API, the commands, /metrics and the database say the same figures."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import dramatiq
import pytest

from app.campaigns.halting import cancel_campaign, pause_campaign
from app.campaigns.lifecycle import Draft, create_campaign
from app.config import ROOT, Settings
from app.db import Db
from app.lists.memberships import unsubscribe
from app.models.tables import Server, Subscriber
from app.queues.broker import make_broker
from app.queues.tickets import enqueue
from app.schedules.search import LATE_MS
from app.web.application import create_app
from tests.console import Visitor, logged_in
from tests.schedules.people import add_users
from tests.scraping import Scraped
from tests.sending import NOW, add_list, add_people, add_test_server, expand, own_redis, start
from tests.smtp_faults import Event, Fault, drop, reply
from tests.smtp_server import SmtpServer
from tests.web import Caller, caller
from tests.working import WorkerProcess, eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

STATES = ("pending", "sending", "sent", "failed", "skipped", "unknown")
TRIED = ("attempts", "sent", "failed", "deferred", "unknown")
#: Nobody is tried again while we look.
SETTINGS = {"RETRY_MINUTES": "60"}


def answers(event: Event) -> Fault | None:
    """Some do not exist, some are to be tried later."""
    if event.verb != "RCPT":
        return None
    if re.match(r"(a|b)\d*7@", event.recipient):
        return reply("550 5.1.1 no such user")
    return reply("450 4.2.0 greylisted") if re.match(r"b\d*5@", event.recipient) else None


def hangs_up(event: Event) -> Fault | None:
    """Its thirtieth mail is taken or not, nobody knows; the connections have served by then, so that it goes on."""
    return drop() if event.verb == "DOT" and event.count == 30 else answers(event)


@dataclass(frozen=True)
class Scene:
    """Everything that can be asked, of one home at rest."""

    db: Db
    settings: Settings
    visitor: Visitor
    reader: Caller
    campaigns: dict[str, int]

    def page(self, path: str) -> str:
        answer = self.visitor.get(path)
        assert answer.status_code == 200, answer.text
        return answer.text

    def api(self, path: str) -> Any:
        answer = self.reader.get(path)
        assert answer.status_code == 200, answer.text
        return answer.get_json()

    def metrics(self) -> Scraped:
        return Scraped(self.reader.get("/metrics").text)

    def command(self, command: str, *arguments: str) -> str:
        environ = {
            **os.environ, "MAILCREW_HOME": str(self.settings.home), "DATABASE_URL": self.settings.database_url,
            "REDIS_URL": self.settings.redis_url,
        }  # fmt: skip
        words = [str(ROOT / "bin" / command), *arguments]
        done = subprocess.run(words, env=environ, text=True, capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def scene(db: Db, settings: Settings, redis_server: str) -> Iterator[Scene]:
    """Five campaigns over three servers, sent by real workers as far as they go."""
    with ExitStack() as stack:
        here = replace(stack.enter_context(own_redis(settings, redis_server, 10)), send_batch_size=40)
        servers = [stack.enter_context(SmtpServer(plan=plan)) for plan in (answers, answers, hangs_up)]
        for server, name in zip(servers, ("ses-1", "ses-2", "shaky"), strict=True):
            add_test_server(server, name)
        Server.update(per_day=5000, per_hour=3000).where(Server.name == "ses-1").execute()
        campaigns = prepare(db, here)
        broker = make_broker(here.redis_url)
        poison = dramatiq.Message.decode(_fetched(broker))
        broker.do_nack("mail", poison.options["redis_message_id"])
        for number in range(2):
            stack.enter_context(
                WorkerProcess(here, "--queues", "send", "--threads", "2", name=f"send_{number:02}", **SETTINGS)
            )
        eventually(lambda: at_rest(db, campaigns), "everything that may go has gone", 120)
        app = create_app(here, db=db)
        found = Scene(db, here, logged_in(app), caller(app, "read"), campaigns)
        eventually(lambda: resting(found), "the workers rest")
        yield found
        broker.close()


def _fetched(broker: Any) -> bytes:
    enqueue(broker, "mail", "deliver_notices")
    return bytes(broker.do_fetch("mail", 1)[0])


def prepare(db: Db, here: Settings) -> dict[str, int]:
    """Campaigns by what becomes of them."""
    add_list(db, "first", add_people(db, 230, "a"))
    add_list(db, "second", [*add_people(db, 150, "b"), *range(1, 31)])
    blocked = {"status": "blocked", "status_reason": "blocked: asked for it"}
    Subscriber.update(**blocked).where(Subscriber.email_key.startswith("a20")).execute()
    every = {"sent": ["first"], "waits": ["second"], "paused": ["second"], "cancelled": ["first"], "draft": ["first"]}
    # One has a server to itself, else chance might leave that one without a mail.
    alone = {"waits": ["shaky"]}
    campaigns = {name: _draft(db, name, lists, alone.get(name, ())) for name, lists in every.items()}
    for name in ("sent", "waits", "cancelled"):
        start(db, campaigns[name])
        expand(db, here, campaigns[name])
    cancel_campaign(db, campaigns["cancelled"], db.now_ms())
    start(db, campaigns["paused"])
    pause_campaign(db, campaigns["paused"])
    expand(db, here, campaigns["paused"])
    # After the expansion, so that the sender finds out.
    unsubscribe(db, "first", "a31@example.test")
    return campaigns


def _draft(db: Db, name: str, lists: list[str], servers: Sequence[str]) -> int:
    said = Draft(
        name=name, subject="Hello", sender="Shop <news@shop.test>", lists=lists, text="Dear {{ name }}",
        servers=servers,
    )  # fmt: skip
    return create_campaign(db, said, NOW)


def at_rest(db: Db, campaigns: dict[str, int]) -> bool:
    """One is sent, another waits for its retries, nothing is in hand."""
    statuses: dict[str, str] = dict(db.rows("SELECT name, status FROM campaigns"))
    open_ = db.value(
        "SELECT COUNT(*) FROM batches "
        "WHERE campaign_id = ? AND (state = 'leased' OR (state = 'ready' AND ready_at <= ?))",
        campaigns["waits"], db.now_ms(),
    )  # fmt: skip
    skipping = db.value("SELECT SUM(pending) FROM batches WHERE campaign_id = ?", campaigns["cancelled"])
    return statuses["sent"] == "sent" and not open_ and not skipping


def resting(scene: Scene) -> bool:
    return [one["is_processing"] for one in scene.api("/api/workers")] == [False, False]


# -- what each place says ------------------------------------------------------------------------


def by_rows(scene: Scene, campaign: int) -> dict[str, int]:
    """What the rows of the recipients say themselves."""
    found = dict.fromkeys(STATES, 0)
    for state, count in scene.db.rows(
        "SELECT CASE WHEN r.state = 'pending' AND b.state = 'leased' THEN 'sending' ELSE r.state END AS shown, "
        "COUNT(*) FROM recipients r JOIN batches b ON b.campaign_id = r.campaign_id AND b.number = r.batch "
        "WHERE r.campaign_id = ? GROUP BY shown",
        campaign,
    ):
        found[str(state)] = int(count)
    return found


def by_pages(scene: Scene, campaign: int, state: str) -> int:
    """How many the API lists, page by page."""
    path, count = f"/api/campaigns/{campaign}/recipients?limit=60&state={state}", 0
    while path:
        answer = scene.reader.get(path)
        count += len(answer.get_json())
        path = answer.headers.get("Link", "").partition("<")[2].partition(">")[0]
    return count


def number(text: str) -> int:
    return int(text.replace(",", ""))


def of_page(scene: Scene, campaign: int) -> dict[str, int]:
    """The key below the bar of a campaign's page."""
    found = re.findall(r'<li class="(\w+)"><a [^>]*>[^<]*</a> ([\d,]+)</li>', scene.page(f"/campaigns/{campaign}"))
    return {state: number(count) for state, count in found}


def row(page: str, name: str) -> list[str]:
    """The cells of the table's row that begins with this name, as a person reads them."""
    for text in re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL):
        found = re.findall(r"<t[hd]\b[^>]*>(.*?)</t[hd]>", text, re.DOTALL)
        cells = [" ".join(re.sub(r"<[^>]+>", " ", cell).split()) for cell in found]
        if cells and cells[0].split(" ")[0] == name:
            return cells[1:]
    raise AssertionError(f"no row of {name}")


def figures(page: str) -> dict[str, str]:
    """The large figures at the top of a page, by their names."""
    return dict(re.findall(r'<span class="name">([^<]*)</span><span class="value">([^<]*)</span>', page))


# -- the comparisons -----------------------------------------------------------------------------


def test_every_place_says_the_same_of_every_campaign(scene: Scene) -> None:
    listed = {one["id"]: one for one in scene.api("/api/campaigns")}
    typed = {one["id"]: one for one in json.loads(scene.command("mailcrew", "campaigns", "list", "--json"))}
    page, overview, seen = scene.page("/campaigns"), scene.page("/"), set[str]()
    for name, campaign in scene.campaigns.items():
        truth = by_rows(scene, campaign)
        seen.update(state for state, count in truth.items() if count)
        check = json.loads(scene.command("check-campaign", str(campaign), "--json"))
        one = scene.api(f"/api/campaigns/{campaign}")
        for place in (check, one, listed[campaign], typed[campaign]):
            assert {state: place[state] for state in STATES} == truth, (name, place)
            assert place["recipients"] == sum(truth.values())
        assert of_page(scene, campaign) == truth, name
        assert {state: by_pages(scene, campaign, state) for state in STATES} == truth, name
        lines = scene.command("mailcrew", "campaigns", "recipients", str(campaign), "--json").splitlines()
        assert Counter(json.loads(line)["state"] for line in lines) == Counter(truth), name
        assert check["status"] == one["status"] == listed[campaign]["status"] == typed[campaign]["status"]
        assert (check["queue"], check["workers"]) == (one["queue"], one["workers"]) == (0, 2)
        done = sum(truth[state] for state in ("sent", "failed", "skipped", "unknown"))
        cells = row(page, name)
        assert cells[2:4] == [f"{done} / {sum(truth.values())}", str(truth["failed"] + truth["unknown"])], name
        if check["status"] in ("sending", "paused"):
            assert row(overview, name)[2].startswith(f"{done} / {sum(truth.values())} ·"), name
    assert seen == {"pending", "sent", "failed", "skipped", "unknown"}, "a figure that is 0 everywhere shows nothing"


def test_every_place_says_the_same_of_what_servers_did(scene: Scene) -> None:
    db, metrics = scene.db, scene.metrics()
    of_all: Counter[tuple[str, str]] = Counter()
    for name, campaign in scene.campaigns.items():
        told = scene.api(f"/api/campaigns/{campaign}/servers")
        page = scene.page(f"/campaigns/{campaign}")
        for share in told:
            assert [number(cell) for cell in row(page, share["server"])] == [share[kind] for kind in TRIED], name
            assert share["attempts"] == sum(share[kind] for kind in TRIED[1:]), share
            of_all.update({(share["server"], kind): share[kind] for kind in TRIED})
        rows = db.rows(
            "SELECT v.name, r.state, COUNT(*) FROM recipients r JOIN servers v ON v.id = r.server_id "
            "WHERE r.campaign_id = ? AND r.attempts > 0 GROUP BY v.name, r.state",
            campaign,
        )
        known = {"sent": "sent", "failed": "failed", "pending": "deferred", "unknown": "unknown"}
        told_by = {(share["server"], kind): share[kind] for share in told for kind in known.values() if share[kind]}
        assert told_by == {(server, known[state]): count for server, state, count in rows}, name
    # Minutes pass: plots leave the present one out.
    db.run("UPDATE deliveries SET minute = minute - 10")
    for campaign in scene.campaigns.values():
        series = scene.api(f"/api/series/deliveries?minutes=30&campaign={campaign}")["series"]
        told = scene.api(f"/api/campaigns/{campaign}/servers")
        assert {kind: sum(series[kind]) for kind in TRIED} == {kind: sum(s[kind] for s in told) for kind in TRIED}
    for kind in TRIED:
        name = f"mailcrew_mails_{'attempted' if kind == 'attempts' else kind}_total"
        of_metrics = metrics.values(name, "server")
        assert of_metrics == {server: of_all[server, kind] for server in ("ses-1", "ses-2", "shaky")}, kind
        assert sum(of_metrics.values()) == db.value(f"SELECT SUM({kind}) FROM deliveries")
    assert all(sum(of_all[server, kind] for server in metrics.values(name, "server")) for kind in TRIED)
    servers = json.loads(scene.command("mailcrew", "servers", "list", "--json"))
    (listed,) = (one for one in servers if one["name"] == "ses-1")
    used = {s.labels["window"]: s.value for s in metrics.families["mailcrew_server_limit_used_mails"].samples}
    assert used == {"hour": listed["used"]["per_hour"], "day": listed["used"]["per_day"]}
    assert listed["used"]["per_day"] == of_all["ses-1", "attempts"]


def test_every_place_says_the_same_of_queues_lists_and_schedules(scene: Scene) -> None:
    db, now = scene.db, scene.db.now_ms()
    add_users(db, 4, due=now - LATE_MS - 5_000)
    add_users(db, 3, due=now + 600_000, enabled=0)
    waits, paused = scene.campaigns["waits"], scene.campaigns["paused"]
    metrics, page = scene.metrics(), scene.page("/queues")
    later = db.value("SELECT SUM(pending) FROM batches WHERE campaign_id = ?", waits)
    of_paused = db.value("SELECT COUNT(*) FROM recipients WHERE campaign_id = ? AND state = 'pending'", paused)
    queues = {one["name"]: one for one in scene.api("/api/queues")}
    for name, queue in queues.items():
        shown = row(page, name)
        messages = {"waiting": queue["waiting"], "later": queue["delayed"], "in_hand": queue["in_hand"]}
        expected = queue["recipients"] or messages
        assert [number(shown[place]) for place in (0, 2, 3)] == [
            expected["waiting"],
            expected["in_hand"],
            expected["later"],
        ]
        assert [number(shown[place]) for place in (5, 6)] == [queue["workers"], queue["dead"]], name
        assert queue["workers"] == metrics.value("mailcrew_workers", queue=name)
        assert queue["dead"] == metrics.value("mailcrew_queue_dead_letters", queue=name)
        assert queue["waiting"] == metrics.value("mailcrew_queue_waiting_messages", queue=name)
    assert (queues["send"]["workers"], queues["mail"]["dead"]) == (2, 1)
    pending = metrics.values("mailcrew_recipients_pending", "state")
    assert pending == {"due": 0, "later": later, "in_hand": 0, "paused": of_paused}
    assert queues["send"]["recipients"]["later"] == later > 0
    statuses = Counter(str(row[0]) for row in db.rows("SELECT status FROM campaigns"))
    assert Counter(one["status"] for one in scene.api("/api/campaigns")) == statuses
    assert {s: c for s, c in metrics.values("mailcrew_campaigns", "status").items() if c} == statuses
    top = figures(scene.page("/"))
    assert (top["Sending"], number(top["Waiting"]), top["Workers"]) == ("1", later, "2")
    assert len(scene.api("/api/dead")) == 1 == scene.page("/dead").count('name="letter"')
    assert len(scene.command("mailcrew", "dead", "list", "--json").splitlines()) == 1

    lists: dict[str, int] = dict(db.rows("SELECT l.name, COUNT(*) FROM lists l JOIN memberships m ON m.list_id = l.id "
                         "WHERE m.status = 'active' GROUP BY l.name"))  # fmt: skip
    page = scene.page("/lists")
    assert {one["name"]: one["subscribers"] for one in scene.api("/api/lists")} == lists
    typed = json.loads(scene.command("mailcrew", "lists", "show", "--json"))
    assert {one["name"]: one["subscribers"] for one in typed} == lists
    assert {name: number(row(page, name)[0]) for name in lists} == lists

    told, top = scene.api("/api/schedules/overview"), figures(scene.page("/schedules"))
    for name, count in {"due": 4, "late": 4, "waiting": 0, "running": 0, "off": 3}.items():
        assert told[name] == metrics.value(f"mailcrew_schedules_{name}") == count, name
    assert [number(top[name]) for name in ("Due", "In the queue", "Running")] == [4, 0, 0]

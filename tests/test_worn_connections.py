"""A connection that has served a while and ends is worn: a new one tells whether the server is in trouble."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.config import Settings
from app.db import Db
from app.models.tables import Server
from tests.sending import add_test_server, campaign_to, send_all, states
from tests.smtp_faults import Event, Fault, drop, reply
from tests.smtp_server import SmtpServer

BATCH = 20
ENDS = {
    "hangs up": ("MAIL", drop()),
    "says why": ("MAIL", reply("421 4.7.0 too many messages on this connection")),
}


@pytest.fixture
def here(settings: Settings) -> Settings:
    return replace(settings, send_batch_size=BATCH)


def step_of(server_id: int) -> int:
    return int(Server.get_by_id(server_id).cooldown_step)


@pytest.mark.parametrize(("verb", "end"), ENDS.values(), ids=ENDS.keys())
def test_a_server_that_limits_the_mails_of_a_connection_is_not_in_trouble(
    db: Db, here: Settings, verb: str, end: Fault
) -> None:
    def plan(event: Event) -> Fault | None:
        # A connection has had enough just where a batch ends, so the next one's first mail meets that.
        return end if event.verb == verb and event.nth == BATCH + 1 else None

    with SmtpServer(plan=plan) as server:
        server_id = add_test_server(server)
        campaign_id = campaign_to(db, here, 3 * BATCH)
        assert send_all(db, here) == 3 * BATCH
        assert server.connections == 3
    assert states(db, campaign_id) == {"sent": 3 * BATCH}
    assert step_of(server_id) == 0


def test_a_mail_that_is_lost_with_a_worn_connection_holds_up_no_other(db: Db, here: Settings) -> None:
    def plan(event: Event) -> Fault | None:
        return drop() if event.verb == "DOT" and event.count == BATCH + 1 else None

    with SmtpServer(plan=plan) as server:
        server_id = add_test_server(server)
        campaign_id = campaign_to(db, here, 3 * BATCH)
        send_all(db, here)
        assert server.connections == 2
    assert states(db, campaign_id) == {"sent": 3 * BATCH - 1, "unknown": 1}
    assert step_of(server_id) == 0


@pytest.mark.parametrize(("verb", "lost"), [("MAIL", 0), ("DOT", 2)])
def test_a_server_that_fails_on_a_worn_connection_and_a_new_one_is_in_trouble(
    db: Db, here: Settings, verb: str, lost: int
) -> None:
    def plan(event: Event) -> Fault | None:
        return drop() if event.verb == verb and event.count > BATCH else None

    with SmtpServer(plan=plan) as server:
        server_id = add_test_server(server)
        campaign_id = campaign_to(db, here, 3 * BATCH)
        send_all(db, here)
        assert server.connections == 2
    found = {"sent": BATCH, "pending": 2 * BATCH - lost, **({"unknown": lost} if lost else {})}
    assert states(db, campaign_id) == found
    assert step_of(server_id) == 1

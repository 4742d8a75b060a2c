"""The pages of senders and of limits per domain: what they show, what their forms do."""

from __future__ import annotations

import pytest
from flask import Flask

from app.config import Settings
from app.db import Db
from app.mail.cooldown import Spot, Trouble
from app.mail.limits.domain_defaults import DEFAULTS
from app.mail.limits.domains import list_rules
from app.mail.servers import add_server
from app.web.application import create_app
from tests.console import Visitor, logged_in
from tests.sending import NOW, add_list, add_people, draft


@pytest.fixture
def visitor(db: Db, settings: Settings) -> Visitor:
    app: Flask = create_app(settings, db=db)
    return logged_in(app)


def test_a_sender_is_paused_with_its_reason_and_let_go_on(visitor: Visitor, db: Db) -> None:
    assert "Nobody is paused, in trouble or being sent from" in visitor.get("/senders").text
    server = add_server(name="one", host="h", port=25, tls="none", now=NOW)
    add_list(db, "all", add_people(db, 1))
    draft(db, ["all"])
    Spot(server, "one", "offers@shop.test").cool_down(db, Trouble(), "450 <slow> down", db.now_ms())
    done = visitor.post("/senders/pause", sender="News@shop.test", reason="on a <blocklist>")
    assert done.headers["Location"] == "/senders"
    page = visitor.get("/senders").text
    assert "news@shop.test is paused" in page
    assert "on a &lt;blocklist&gt;" in page
    assert "450 &lt;slow&gt; down" in page
    assert '<option value="news@shop.test">' in page
    visitor.post("/senders/resume", sender="news@shop.test")
    page = visitor.get("/senders").text
    assert "may be sent from again" in page
    assert "blocklist" not in visitor.get("/senders/live").text


def test_what_is_wrong_stands_at_its_field(visitor: Visitor, db: Db) -> None:
    visitor.get("/senders")
    for fields, field in (({"sender": "nobody"}, "sender"), ({"sender": "a@b.example", "reason": "x" * 501}, "reason")):
        again = visitor.post("/senders/pause", **fields)
        assert again.status_code == 400
        assert f'id="wrong-{field}" role="alert"' in again.text
        assert f'value="{fields["sender"]}"' in again.text
    assert db.rows("SELECT * FROM paused_senders") == []


def test_rules_of_domains_are_set_changed_and_removed(visitor: Visitor, db: Db) -> None:
    empty = visitor.get("/domains").text
    assert "There is no rule" in empty
    assert "gmail.com" in empty, "the shipped ones are shown"
    assert visitor.post("/domains/set", domain="Gmail.com", per_minute="600").status_code == 303
    assert "The rule for gmail.com holds" in visitor.get("/domains").text
    assert 'value="600"' in visitor.get("/domains?domain=gmail.com").text
    visitor.post("/domains/defaults")
    assert f"{len(DEFAULTS) - 1} rules are added" in visitor.get("/domains").text
    assert {rule.domain: rule.limits.per_minute for rule in list_rules(db)}["gmail.com"] == 600
    visitor.post("/domains/remove", domain="gmail.com")
    assert "gmail.com" not in [rule.domain for rule in list_rules(db)]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"domain": "x y", "per_day": "5"}, "domain"),
        ({"domain": "", "per_day": "5"}, "domain"),
        ({"domain": "gmail.com"}, "per_second"),
        ({"domain": "gmail.com", "per_day": "0"}, "per_day"),
        ({"domain": "gmail.com", "per_day": "many"}, "per_day"),
    ],
)
def test_a_rule_that_cannot_be_keeps_what_was_typed(
    visitor: Visitor, db: Db, fields: dict[str, str], field: str
) -> None:
    visitor.get("/domains")
    again = visitor.post("/domains/set", **fields)
    assert again.status_code == 400
    assert f'id="wrong-{field}" role="alert"' in again.text
    for value in filter(None, fields.values()):
        assert f'value="{value}"' in again.text
    assert list_rules(db) == []


def test_a_form_from_elsewhere_changes_nothing(visitor: Visitor, db: Db) -> None:
    visitor.get("/senders")
    for path in ("/senders/pause", "/senders/resume", "/domains/set", "/domains/remove", "/domains/defaults"):
        assert visitor.post(path, csrf="x", sender="a@b.example", domain="b.example", per_day="5").status_code == 403
    assert db.rows("SELECT * FROM paused_senders") == []
    assert list_rules(db) == []

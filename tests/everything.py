"""An application that has one of everything, for what goes through all routes or all pages."""

from __future__ import annotations

import io

from flask import Flask

from app.config import Settings
from app.db import Db
from app.mail.servers import add_server
from app.queues.broker import redis_client
from app.web.application import create_app
from tests.sending import NOW, add_list, add_people, draft, expand, start
from tests.test_web_dead import bury
from tests.web import caller, plant


def everything(db: Db, here: Settings) -> Flask:
    """One of everything: campaigns in three states, an import, a target, dead letters, a worker elsewhere."""
    add_server(name="sink", host="127.0.0.1", port=1, tls="none", now=NOW)
    add_list(db, "all", add_people(db, 20))
    for state in ("sending", "draft", "done"):
        campaign = draft(db, ["all"])
        if state != "draft":
            start(db, campaign)
            expand(db, here, campaign)
        if state == "done":
            db.run("UPDATE campaigns SET status = 'sent' WHERE id = ?", campaign)
    bury(here, "mail", 3)
    plant(redis_client(here.redis_url), 1)
    app = create_app(here, db=db)
    admin = caller(app)
    target = {"kind": "http", "url": "https://site.test/", "timeout_seconds": 1}
    assert admin.post("/api/schedules/ann@example.test/targets", target).status_code == 201
    file = (io.BytesIO(b"email\nnew@example.test\nnobody\n"), "people.csv")
    assert admin.ask("POST", "/api/lists/1/import", data={"file": file}).status_code == 202
    return app

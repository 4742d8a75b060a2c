"""Schemathesis asks every operation of the API, with all its checks: right and wrong, and one after another."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask

from app.config import ROOT, Settings
from app.db import Db
from app.mail.servers import add_server
from app.models.tokens import create_token
from app.queues.broker import redis_client
from app.secrets import secret
from app.web.application import create_app
from app.web.openapi import description
from tests.console import serving
from tests.sending import NOW, add_list, add_people, draft, expand, start
from tests.test_web_dead import bury
from tests.web import caller, plant

CONFIG = ROOT / "tests" / "schemathesis.toml"
EXAMPLES = 10


@pytest.fixture
def here(settings: Settings, redis_server: str) -> Iterator[Settings]:
    found = replace(settings, redis_url=f"{redis_server}?db=14")
    client = redis_client(found.redis_url)
    client.flushdb()
    yield found
    client.flushdb()
    client.close()


@pytest.fixture
def app(db: Db, here: Settings) -> Flask:
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


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    # What is at the edges of a schema, the stricter database refuses first.
    ("database_url", "phases"), [("mysql", "coverage"), ("sqlite", "fuzzing,stateful")], indirect=["database_url"]
)  # fmt: skip
def test_every_answer_is_as_described(app: Flask, here: Settings, tmp_path: Path, phases: str) -> None:
    """Coverage: what stands at the edges of each schema. Stateful: with what earlier answers have told."""
    token = create_token("fuzzer", "admin", NOW)
    with serving(app) as site:
        done = subprocess.run(
            [
                Path(sys.executable).with_name("schemathesis"), "--config-file", CONFIG, "run", f"{site}/openapi.json",
                "--header", f"Authorization: Bearer {token}", "--phases", phases,
                "--max-examples", str(EXAMPLES), "--continue-on-failure", "--no-color",
            ],
            cwd=tmp_path, env={**os.environ, "CRON_SECRET": secret(here, "CRON_SECRET")},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout
    operations = sum(len(path) for path in description(app)["paths"].values())
    assert f"Tested: {operations - 1}" in done.stdout, "all but the description, which was asked for to begin with"

"""Schemathesis asks every operation of the API, with all its checks: right and wrong, and one after another."""

from __future__ import annotations

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
from app.models.tokens import create_token
from app.queues.broker import redis_client
from app.secrets import secret
from app.web.openapi import description
from tests.console import serving
from tests.everything import everything
from tests.sending import NOW

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
    return everything(db, here)


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

"""The web application: what every request passes, and one blueprint for each resource."""

from __future__ import annotations

from pathlib import Path

from flask import Flask
from flask.json.provider import DefaultJSONProvider

from app.config import ROOT, Settings
from app.db import Db, connect
from app.web import access, access_log, campaigns, errors, halting, health, queues, workers
from app.web.resources import DATABASE_SECONDS, EXTENSION, Resources

#: Requests are small JSON documents; a longer one is refused before it is read.
LONGEST_BODY = 64 * 1024

BLUEPRINTS = (health.routes, workers.routes, queues.routes, campaigns.routes, halting.routes)


def create_app(settings: Settings, root: Path = ROOT, db: Db | None = None) -> Flask:
    """The application of one home. Touches neither database nor Redis: it starts without them.

    `db`: the one that this process has already; with two, the models would speak past a transaction.
    """
    app = Flask(__name__, static_folder=None, template_folder=None)
    app.config.update(MAX_CONTENT_LENGTH=LONGEST_BODY, PROVIDE_AUTOMATIC_OPTIONS=False)
    # A redirect would be answered before anybody is asked who they are.
    app.url_map.merge_slashes = False
    assert isinstance(app.json, DefaultJSONProvider)
    app.json.sort_keys = False
    app.extensions[EXTENSION] = Resources(settings, root, db or connect(settings.database_url, DATABASE_SECONDS))
    # In this order: even a request without a token is logged.
    access_log.install(app)
    access.install(app)
    errors.install(app)
    for routes in BLUEPRINTS:
        app.register_blueprint(routes)
    return app

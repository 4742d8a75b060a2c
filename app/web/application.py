"""The web application: what every request passes, and one blueprint for each resource."""

from __future__ import annotations

from pathlib import Path

from flask import Flask
from flask.json.provider import DefaultJSONProvider
from werkzeug.middleware.proxy_fix import ProxyFix

from app.config import ROOT, Settings
from app.db import Db, connect
from app.web import (
    access,
    access_log,
    alarms,
    audit,
    authoring,
    campaigns,
    console,
    crew,
    cron,
    dead,
    domains,
    errors,
    halting,
    headers,
    health,
    hosts,
    imports,
    latencies,
    lists,
    logs,
    metrics,
    openapi,
    processes,
    queues,
    recipients,
    scaling,
    schedules,
    senders,
    sending,
    series,
    servers,
    settings,
    static,
    subscribers,
    suppressions,
    targets,
    tokens,
    trail,
    workers,
)
from app.web.resources import DATABASE_SECONDS, EXTENSION, Resources
from app.web.uploads import StreamedRequest

#: Requests are small JSON documents; a longer one is refused before it is read.
LONGEST_BODY = 64 * 1024

#: One line a resource.
BLUEPRINTS = (
    health.routes,
    workers.routes,
    processes.routes,
    hosts.routes,
    queues.routes,
    crew.routes,
    dead.routes,
    scaling.routes,
    campaigns.routes,
    halting.routes,
    sending.routes,
    recipients.routes,
    series.routes,
    servers.routes,
    senders.routes,
    domains.routes,
    trail.routes,
    openapi.routes,
    static.routes,
    schedules.routes,
    targets.routes,
    tokens.routes,
    settings.routes,
    latencies.routes,
    cron.routes,
    authoring.routes,
    lists.routes,
    imports.routes,
    subscribers.routes,
    suppressions.routes,
    metrics.routes,
    logs.routes,
    alarms.routes,
)


def create_app(settings: Settings, root: Path = ROOT, db: Db | None = None) -> Flask:
    """The application of one home. Touches neither database nor Redis: it starts without them.

    `db`: the one that this process has already; with two, the models would speak past a transaction.
    """
    app = Flask(__name__, static_folder=None, template_folder="console/templates")
    app.config.update(MAX_CONTENT_LENGTH=LONGEST_BODY, PROVIDE_AUTOMATIC_OPTIONS=False)
    app.request_class = StreamedRequest
    # A redirect would be answered before anybody is asked who they are.
    app.url_map.merge_slashes = False
    if hops := settings.trusted_proxies:
        # Else anybody could say where they come from, and try passwords as somebody new each time.
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops)  # type: ignore[method-assign]
    assert isinstance(app.json, DefaultJSONProvider)
    app.json.sort_keys = False
    app.extensions[EXTENSION] = Resources(settings, root, db or connect(settings.database_url, DATABASE_SECONDS))
    # In this order: even a request without a token is logged.
    access_log.install(app)
    access.install(app)
    audit.install(app)
    headers.install(app)
    errors.install(app)
    for routes in BLUEPRINTS:
        app.register_blueprint(routes)
    console.install(app)
    return app

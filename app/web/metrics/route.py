"""The page itself: collected once a second however many scrape, in the format that the scraper asks for."""

from __future__ import annotations

from collections.abc import Iterable

from flask import Blueprint, Response, g, request
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from app.web.metrics.collecting import collect
from app.web.openapi import describes
from app.web.resources import resources

routes = Blueprint("metrics", __name__)


@routes.get("/metrics")
@describes("Everything that can be counted, for Prometheus", str, media="text/plain")
def metrics() -> Response:
    g.quiet = True
    encode, media = choose_encoder(request.headers.get("Accept", ""))
    found = resources().shared("metrics").get(None, collect)
    return Response(encode(_Collected(found)), content_type=media)


class _Collected(Collector):
    """What was collected, as the library wants it handed over."""

    def __init__(self, found: Iterable[Metric]) -> None:
        self._found = found

    def collect(self) -> Iterable[Metric]:
        return self._found

"""Everything that can be looked at: from the application's own map, so that a new page is among it by itself."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from flask import Flask

from app.web.openapi import description
from bench.console.seeding import Seeded

#: No look at the data, or none of ours: files, the login, what wants a secret of its own.
LEFT_OUT = ("/static/", "/favicon.ico", "/login", "/api/cron/", "/dramatiq", "/openapi.json")
#: What people choose on pages, which the API's description does not tell.
CHOICES: dict[str, Sequence[Mapping[str, str]]] = {
    "/campaigns": ({"status": "sent"}, {"before": "250"}, {"status": "draft"}),
    "/campaigns/<campaign_id>/recipients": (
        {"state": "failed"}, {"state": "pending"}, {"state": "unknown"}, {"email": "person77"},
        {"email": "person9", "state": "failed"},
    ),
    "/subscribers": ({"q": "person77"}, {"q": "Ada"}, {"q": "nobody here"}, {"q": "person500000@example.org"}),
    "/subscribers/<subscriber_id>": ({"why": "1"},),
    "/lists/<list_id>/members": ({"status": "unsubscribed"},),
    "/schedules": ({"email": "user77"}, *({"standing": one} for one in ("late", "busy", "failed", "broken", "off"))),
    "/dead": ({"queue": "monitor"}, {"search": "4711"}, {"queue": "monitor", "skip": "4000"}),
    "/scaling": ({"queue": "mail"}, {"changes": "1"}, {"queue": "expand", "changes": "1"}),
    "/audit": ({"who": "token 7"}, {"before": "50000"}),
    "/workers": ({"queue": "send"},),
    "/api/campaigns/<campaign_id>/recipients": ({"email": "person77"},),
    "/api/subscribers": ({"q": "person77"}, {"q": "Ada"}, {"q": "nobody here"}),
    "/api/series/deliveries": ({"minutes": "44640"}, {"campaign": "1"}),
    "/api/series/scaling": ({"minutes": "44640"},),
    "/api/schedules": ({"email": "user77"},),
    "/api/dead": ({"queue": "monitor", "search": "4711"},),
}  # fmt: skip

#: Routes that answer nothing without being asked for something.
NEEDED = {"/api/subscribers/<subscriber_id>/why": {"campaign": "1"}}


@dataclass(frozen=True)
class Route:
    """One thing to look at: where it stands, what is chosen there, and the addresses to ask, in turn."""

    rule: str
    chosen: str
    paths: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.rule + (f"?{self.chosen}" if self.chosen else "")

    @property
    def is_page(self) -> bool:
        return not self.rule.startswith("/api/") and self.rule != "/metrics"


def routes(app: Flask, seeded: Seeded, pids: Sequence[int]) -> list[Route]:
    """Every GET of the application with what may be chosen there; raises KeyError for a parameter nobody knows."""
    enums = _enums(app)
    found = []
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        if "GET" not in (rule.methods or ()) or rule.rule.startswith(LEFT_OUT):
            continue
        name = "".join(f"<{text}>" if is_parameter else text.lstrip("|") for is_parameter, text in rule._trace)
        values = _values(seeded, pids, sorted(rule.arguments))
        addresses = [str(built[1]) for value in values if (built := rule.build(dict(value)))]
        for choice in (NEEDED.get(name, {}), *CHOICES.get(name, ()), *enums.get(name, ())):
            query = urlencode(choice)
            found.append(Route(name, query, tuple(f"{a}?{query}" if query else a for a in addresses)))
    return found


def _values(seeded: Seeded, pids: Sequence[int], names: Sequence[str]) -> Iterator[dict[str, object]]:
    """Values for the parameters of a route, so that those of one address belong together."""
    known: dict[str, Sequence[object]] = {
        "campaign_id": seeded.campaigns, "subscriber_id": seeded.subscribers, "user_id": seeded.users,
        "user": seeded.users, "target_id": seeded.targets, "list_id": (1, 2, 5), "server_id": (1, 3, 10),
        "import_id": (1, 100), "pid": tuple(pids), "alarm_id": seeded.alarms, "queue": ("send", "mail"),
    }  # fmt: skip
    columns = [known[name] for name in names]
    longest = max(map(len, columns), default=1)
    for row in itertools.islice(zip(*map(itertools.cycle, columns), strict=False), longest) if columns else [()]:
        yield dict(zip(names, row, strict=True))


def _enums(app: Flask) -> dict[str, list[dict[str, str]]]:
    """For each route of the API: each word that one of its query values may be."""
    found: dict[str, list[dict[str, str]]] = {}
    for path, operations in description(app)["paths"].items():
        for parameter in operations.get("get", {}).get("parameters", ()):
            if parameter["in"] == "query" and "enum" in parameter["schema"]:
                name = path.replace("{", "<").replace("}", ">")
                found.setdefault(name, []).extend({parameter["name"]: str(one)} for one in parameter["schema"]["enum"])
    return found

"""Campaigns, their recipients, and what the SMTP servers did and may do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.metrics_core import Metric

from app.mail.server_views import ServerView
from app.models.counters import Counted
from app.models.states import CampaignStatus
from app.scaling.demand import Seen
from app.web.metrics.families import Samples, counter, gauge, single
from app.web.metrics.figures import Figures

SERVER = ("server",)
#: The metrics of what servers did, in the order of `delivery_hours.COLUMNS`.
DID = (
    ("mailcrew_mails_attempted_total", "Mails that a server was asked to take and answered, or may have taken."),
    ("mailcrew_mails_sent_total", "Mails that a server took."),
    ("mailcrew_mails_failed_total", "Mails that a server refused for good."),
    ("mailcrew_mails_deferred_total", "Mails that a server put off; they are tried again."),
    ("mailcrew_mails_unknown_total", "Mails that a server may or may not have taken."),
)


def metrics(seen: Seen, figures: Figures | None, servers: Sequence[ServerView] | None) -> Iterator[Metric]:
    """What could not be asked is None."""
    yield from _campaigns(seen, figures)
    for place, (name, text) in enumerate(DID):
        tried = None if figures is None else [((server,), row[place]) for server, row in sorted(figures.tried.items())]
        yield counter(name, text, SERVER, tried)
    yield from _recovery(figures)
    yield from _servers(figures, servers)


def _campaigns(seen: Seen, figures: Figures | None) -> Iterator[Metric]:
    yield gauge(
        "mailcrew_campaigns", "Campaigns in each status.", ("status",),
        None if figures is None else [((status,), figures.campaigns.get(status, 0)) for status in CampaignStatus],
    )  # fmt: skip
    every = None if seen.recipients is None else seen.recipients.values()
    yield single(
        "mailcrew_campaigns_held", "Sending campaigns none of whose servers may be used now.",
        None if every is None else sum(one.held_by is not None for one in every),
    )  # fmt: skip
    pending: Samples | None = None
    if every is not None and figures is not None:
        pending = [
            (("due",), sum(one.due for one in every)), (("later",), sum(one.later for one in every)),
            (("in_hand",), sum(one.leased for one in every)), (("paused",), figures.paused_recipients),
        ]  # fmt: skip
    yield gauge(
        "mailcrew_recipients_pending",
        "Recipients still to be mailed: due now, later (retries, limits), in workers' hands, of paused campaigns.",
        ("state",), pending,
    )  # fmt: skip
    yield single(
        "mailcrew_recipients_oldest_due_age_seconds", "How long the longest-waiting due recipients have waited.",
        None if every is None else max((one.oldest_seconds or 0.0 for one in every), default=0.0),
    )  # fmt: skip


def _recovery(figures: Figures | None) -> Iterator[Metric]:
    leases: Samples | None = None
    recovered: Samples | None = None
    if figures is not None:
        leases = [((), figures.counters[Counted.LEASES_RECOVERED].get("", 0))]
        said = figures.counters[Counted.MAILS_RECOVERED]
        recovered = [((outcome,), said.get(outcome, 0)) for outcome in ("recorded", "unknown")]
    yield counter("mailcrew_leases_recovered_total", "Batches that were settled because their worker died.", (), leases)
    yield counter(
        "mailcrew_mails_recovered_total",
        "Mails of such batches of which the dead worker's journal knew the outcome, and those that became unknown.",
        ("outcome",), recovered,
    )  # fmt: skip


def _servers(figures: Figures | None, servers: Sequence[ServerView] | None) -> Iterator[Metric]:
    yield gauge(
        "mailcrew_server_can_send", "Whether a server may be used now: 1, or 0.", SERVER,
        None if servers is None else [((one.name,), float(one.can_send)) for one in servers],
    )  # fmt: skip
    left: Samples | None = None
    if servers is not None and figures is not None:
        left = [((one.name,), max(0, (one.cooldown_until or 0) - figures.at) / 1000) for one in servers]
    yield gauge(
        "mailcrew_server_cooldown_seconds", "How long a server cools down yet after trouble; 0 when it does not.",
        SERVER, left,
    )  # fmt: skip
    windows = ("server", "window")
    yield gauge(
        "mailcrew_server_limit_mails", "Mails that a server may take in each second, minute, hour or day.", windows,
        None if servers is None else [
            ((one.name, name.removeprefix("per_")), limit) for one in servers for name, limit in one.limits.items()
        ],
    )  # fmt: skip
    yield gauge(
        "mailcrew_server_limit_used_mails", "How much of such a limit is used.", windows,
        None if servers is None else [
            ((one.name, name.removeprefix("per_")), one.used.get(name, 0))
            for one in servers if one.used is not None for name, limit in one.limits.items() if limit is not None
        ],
    )  # fmt: skip

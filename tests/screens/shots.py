"""Which pictures there are: each page once in light on a desk, some in dark, on a phone, in Chinese."""

from __future__ import annotations

from dataclasses import dataclass

from tests.console import DESKTOP, PHONE


@dataclass(frozen=True)
class Shot:
    """One picture; `page` is the name of the console's page that it shows."""

    page: str
    path: str
    name: str = ""
    size: tuple[int, int] = DESKTOP
    dark: bool = False
    language: str = "en"

    @property
    def file(self) -> str:
        kind = ("-dark" if self.dark else "") + ("-phone" if self.size == PHONE else "")
        return f"{self.name or self.page}{kind}{'-zh' if self.language == 'zh' else ''}.png"


#: Of the seed's campaigns: one that has ended, one that is being sent, a draft.
ENDED, SENDING, DRAFT = 1, 4, 5

EVERY = (
    Shot("overview", "/"),
    Shot("campaigns", "/campaigns"),
    Shot("campaign", f"/campaigns/{SENDING}"),
    Shot("campaign", f"/campaigns/{ENDED}", "campaign-ended"),
    Shot("campaign_edit", f"/campaigns/{DRAFT}/edit"),
    Shot("recipients", f"/campaigns/{ENDED}/recipients?state=failed"),
    Shot("lists", "/lists"),
    Shot("lists", "/lists/1", "list"),
    Shot("subscribers", "/subscribers?q=gone"),
    Shot("subscribers", "/subscribers/1", "subscriber"),
    Shot("servers", "/servers"),
    Shot("servers", "/servers/1", "server"),
    Shot("server_edit", "/servers/1/edit"),
    Shot("senders", "/senders"),
    Shot("domains", "/domains"),
    Shot("suppressions", "/suppressions"),
    Shot("queues", "/queues"),
    Shot("dead", "/dead"),
    Shot("workers", "/workers"),
    Shot("scaling", "/scaling"),
    Shot("dramatiq", "/dramatiq/"),
    Shot("schedules", "/schedules"),
    Shot("schedule", "/schedules/1"),
    Shot("target", "/schedules/1/targets/1"),
    Shot("alarms", "/alarms"),
    Shot("logs", "/logs"),
    Shot("tokens", "/tokens"),
    Shot("settings", "/settings"),
    Shot("audit", "/audit"),
)

DARK = (
    Shot("overview", "/", dark=True),
    Shot("campaign", f"/campaigns/{SENDING}", dark=True),
    Shot("servers", "/servers", dark=True),
    Shot("scaling", "/scaling", dark=True),
    Shot("target", "/schedules/1/targets/1", dark=True),
)

PHONES = (
    Shot("overview", "/", size=PHONE),
    Shot("campaign", f"/campaigns/{SENDING}", size=PHONE),
    Shot("servers", "/servers", size=PHONE),
    Shot("queues", "/queues", size=PHONE),
    Shot("schedule", "/schedules/1", size=PHONE),
)

CHINESE = (
    Shot("overview", "/", language="zh"),
    Shot("campaign", f"/campaigns/{SENDING}", language="zh"),
    Shot("campaign_edit", f"/campaigns/{DRAFT}/edit", language="zh"),
    Shot("schedule", "/schedules/1", language="zh", size=PHONE),
)

#: First those that show what goes on: it has an end.
SHOTS = tuple(
    sorted((*EVERY, *DARK, *PHONES, *CHINESE), key=lambda shot: shot.path not in ("/", f"/campaigns/{SENDING}"))
)

"""A campaign pauses by itself when too many of its mails fail, and the operator gets a mail.

PAUSE_ERRORS failed and PAUSE_ERROR_PERCENT of sent and failed, both counted since a person last let it go on. So
whoever resumes it has seen the errors, and only new ones pause it again.
"""

from __future__ import annotations

import re
import threading
import time
from collections import Counter

from app.config import Settings
from app.db import Db
from app.db.connection import DatabaseTrouble
from app.events import warn
from app.mail.notices import post
from app.models.states import CampaignStatus, RecipientState

#: A process looks at a campaign this often at most, in seconds.
LOOK_SECONDS = 1.0
#: And never so that looking takes more than one part in so many of its time.
IDLE_SHARE = 50
#: The reason is read from the last so many batches with failures.
LAST_BATCHES = 20

_CODE = re.compile(r"\d{3}(?: \d\.\d{1,3}\.\d{1,3})?")


class _Pace:
    """When each campaign may be looked at again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next: dict[int, float] = {}

    def begin(self, campaign_id: int, now: float) -> bool:
        """Whether it is time; if so, nobody else of this process looks meanwhile."""
        with self._lock:
            if now < self._next.get(campaign_id, 0.0):
                return False
            self._next[campaign_id] = float("inf")
            return True

    def end(self, campaign_id: int, began: float, now: float) -> None:
        with self._lock:
            self._next[campaign_id] = now + max(LOOK_SECONDS, IDLE_SHARE * (now - began))


_pace = _Pace()


def after(db: Db, settings: Settings, campaign_id: int, now: int) -> bool:
    """To be called when outcomes with failures were committed; True when that paused the campaign.

    Raises nothing while the database is in trouble: the next failure looks again.
    """
    began = time.monotonic()
    if not _pace.begin(campaign_id, began):
        return False
    try:
        return pause_when_failing(db, settings, campaign_id, now)
    except DatabaseTrouble as error:
        warn("errors of a campaign could not be counted", campaign_id=campaign_id, reason=str(error))
        db.close()
        return False
    finally:
        _pace.end(campaign_id, began, time.monotonic())


def pause_when_failing(db: Db, settings: Settings, campaign_id: int, now: int) -> bool:
    """Pause the campaign if its errors are above the threshold; of any number who do this at once one does it."""
    campaign = db.row(
        "SELECT name, sent_at_resume, failed_at_resume FROM campaigns WHERE id = ? AND status = ?",
        campaign_id, CampaignStatus.SENDING,
    )  # fmt: skip
    if campaign is None:
        return False
    name, sent_before, failed_before = campaign
    sums = db.row("SELECT SUM(sent), SUM(failed) FROM batches WHERE campaign_id = ?", campaign_id)
    assert sums is not None
    sent, failed = int(sums[0] or 0) - int(sent_before), int(sums[1] or 0) - int(failed_before)
    if failed < settings.pause_errors or failed * 100 < settings.pause_error_percent * (sent + failed):
        return False
    share = f"{failed:,} of {sent + failed:,} mails failed ({100 * failed // max(1, sent + failed)} %)"
    reason = f"{share}: {usual_reply(db, campaign_id)}"[:500]
    with db.transaction():
        # The counts again: a person may have let it go on since they were read.
        paused = db.run(
            "UPDATE campaigns SET status = ?, reason = ?, boost = 0 "
            "WHERE id = ? AND status = ? AND sent_at_resume = ? AND failed_at_resume = ?",
            CampaignStatus.PAUSED, reason, campaign_id, CampaignStatus.SENDING, sent_before, failed_before,
        )  # fmt: skip
        if paused and settings.alert_mail:
            subject = f"[mailcrew] campaign {campaign_id} {name!r} paused by itself"
            body = _body(campaign_id, name, reason)
            post(db, kind="mail", target=settings.alert_mail, subject=subject, body=body, now=now)
    if paused:
        warn("campaign paused by itself", campaign_id=campaign_id, reason=reason)
    return paused == 1


def usual_reply(db: Db, campaign_id: int) -> str:
    """What the last failures mostly say; replies of one code count as the same, whatever their text."""
    batches = db.rows(
        "SELECT number FROM batches WHERE campaign_id = ? AND failed > 0 ORDER BY number DESC LIMIT ?",
        campaign_id, LAST_BATCHES,
    )  # fmt: skip
    if not batches:
        return "no reason was kept"
    reasons = [
        str(reason or "no reason was kept")
        for (reason,) in db.rows(
            f"SELECT reason FROM recipients{db.by_batch} WHERE campaign_id = ? "
            f"AND batch IN ({', '.join('?' * len(batches))}) AND state = ?",
            campaign_id, *(number for (number,) in batches), RecipientState.FAILED,
        )
    ]  # fmt: skip
    kinds = Counter(_kind(reason) for reason in reasons)
    if not kinds:
        return "no reason was kept"
    usual = kinds.most_common(1)[0][0]
    return Counter(reason for reason in reasons if _kind(reason) == usual).most_common(1)[0][0]


def _kind(reason: str) -> str:
    """The code that a reply begins with, or the whole text."""
    code = _CODE.match(reason)
    return code[0] if code else reason


def _body(campaign_id: int, name: str, reason: str) -> str:
    return (
        f"Campaign {campaign_id} {name!r} has paused itself: {reason}\n\n"
        f"Nothing more of it is sent. What failed, and why:\n"
        f"  bin/check-campaign {campaign_id}\n"
        f"  bin/mailcrew campaigns recipients {campaign_id} --state failed\n\n"
        f"Let it go on (errors are then counted from zero), or end it for good:\n"
        f"  bin/mailcrew campaigns resume {campaign_id}\n"
        f"  bin/mailcrew campaigns cancel {campaign_id}\n"
    )

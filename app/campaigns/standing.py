"""Whether those of a batch may still be mailed, asked when the batch is loaded: right before it is sent.

Three things can have happened since the expansion, and each has its reason in words:

- the subscriber is blocked, bounced or deleted: read with the mail itself;
- they left every list of the campaign. As long as nobody has left any of them since its members were read
  (`lists.unsubscribed_at` against `campaign_lists.unsubscribed_seen`), no membership is looked at;
- a rule for their domain has not reached them yet (`RuleKind.OPENING`). Usually there is no such rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from app.clock import in_utc
from app.db import Db
from app.mail.suppression import opening_rules_for
from app.models.states import MembershipStatus, RuleKind, SubscriberStatus

#: The reason why one of `subscribers s` may not be mailed, NULL for nearly all.
REASON = f"CASE WHEN s.status = '{SubscriberStatus.ACTIVE}' THEN NULL ELSE COALESCE(s.status_reason, s.status) END"
#: A number that does not depend on the row, so that it is computed once a query: 1 when a rule is on its way, and 2 for
#: each list of the campaign that somebody has left. It binds the campaign's id.
CHANGED = (
    f"EXISTS (SELECT 1 FROM suppressions WHERE kind = '{RuleKind.OPENING}') + "
    "2 * (SELECT COUNT(*) FROM campaign_lists c JOIN lists l ON l.id = c.list_id "
    "WHERE c.campaign_id = ? AND COALESCE(l.unsubscribed_at, 0) <> c.unsubscribed_seen)"
)


def reasons_to_skip(db: Db, campaign_id: int, people: Mapping[int, str | None], changed: int) -> dict[int, str]:
    """Who of these is not to be mailed any more, and why, by id. `people`: REASON by id; `changed`: what CHANGED says.

    At most two queries, usually none.
    """
    reasons = {id_: reason for id_, reason in people.items() if reason}
    if not changed:
        return reasons
    ids = [id_ for id_ in people if id_ not in reasons]
    if ids and changed > 1:
        reasons |= _departures(db, campaign_id, ids)
    if ids and changed % 2:
        reasons |= opening_rules_for(db, ids)
    return reasons


def _departures(db: Db, campaign_id: int, ids: Sequence[int]) -> dict[int, str]:
    """Those who are on none of the campaign's lists any more."""
    rows = db.rows(
        "SELECT m.subscriber_id, m.status, m.updated_at FROM campaign_lists c "
        "JOIN memberships m ON m.list_id = c.list_id "
        f"WHERE c.campaign_id = ? AND m.subscriber_id IN ({', '.join('?' * len(ids))}) ORDER BY m.updated_at",
        campaign_id, *ids,
    )  # fmt: skip
    still = {int(row[0]) for row in rows if row[1] == MembershipStatus.ACTIVE}
    words = {MembershipStatus.UNSUBSCRIBED: "unsubscribed on", MembershipStatus.REMOVED: "taken off the list on"}
    # An unsubscription says more than a removal, the latest more than those before.
    told = {
        int(row[0]): f"{words[status]} {in_utc(int(row[2]))}"
        for status in (MembershipStatus.REMOVED, MembershipStatus.UNSUBSCRIBED)
        for row in rows
        if row[1] == status
    }
    return {id_: told.get(id_, "on no list of the campaign") for id_ in ids if id_ not in still}

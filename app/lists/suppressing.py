"""Add and remove rules of suppression, and bring the subscribers to what the rules say.

Whoever decides by the rules (a chunk of an import) or writes what follows from them does so in its turn
(`app/lists/turn.py`). So for each chunk one of two things is true: it ended before our rule was committed, and
our pages, which come later, find its people; or it begins after that, and reads our rule.

A rule for an address reaches its one subscriber in the transaction that adds it. One for a domain has to go
through all of them, page by page; until it has, it is `opening`, and senders ask for it. Whoever adds rules next
goes on with one that was broken off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from app.db import Db
from app.db.connection import Row
from app.db.parts import marks, parts
from app.lists.people import IMPORTED
from app.lists.turn import take_turn, with_patience
from app.mail.suppression import Listed, Rule, covering, rules_for
from app.models.states import RuleKind, SubscriberStatus

#: Subscribers looked at per transaction: of a covering index, so only those who match cost something.
PAGE = 5000
#: Up to so many domains the database sorts out whom they may mean; beyond, a look into a set is faster.
MATCHED_BY_DATABASE = 10
LISTED_AT_ONCE = 2000
LONGEST_REASON = 500

T = TypeVar("T")

AGAIN = "say it again to complete it"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A rule to be added, and why."""

    rule: Rule
    reason: str


@dataclass(frozen=True, slots=True)
class Added:
    """`created` rules are new; `blocked` subscribers were active until now."""

    created: int
    blocked: int


@dataclass(frozen=True, slots=True)
class Removed:
    """`removed`: there was such a rule. `released` subscribers are active again."""

    removed: bool
    released: int


def add_rules(db: Db, wanted: Sequence[Wanted]) -> Added:
    """Add rules that are not there yet, at most some thousands; those for domains are `opening` afterwards.

    Safe to say again. Raises Unavailable.
    """
    done = _in_turn(db, lambda: add_in_turn(db, wanted))
    return Added(sum(d.created for d in done), sum(d.blocked for d in done))


def is_any_opening(db: Db) -> bool:
    """Whether a rule has not reached all subscribers yet: somebody is at it, or was."""
    return db.value("SELECT 1 FROM suppressions WHERE kind = ? LIMIT 1", RuleKind.OPENING) is not None


def reach_all(db: Db, page_done: Callable[[], object] = lambda: None) -> int:
    """Block all whom a rule means that is still `opening`, page by page; how many. Raises Unavailable."""
    opening = db.rows("SELECT value, created_at FROM suppressions WHERE kind = ?", RuleKind.OPENING)
    domains = {str(value) for value, _ in opening}
    after: str | None = ""
    blocked = 0
    while domains and after is not None:
        pages = _in_turn(db, partial(_block_page, db, domains, after))
        blocked += sum(count for count, _ in pages)
        after = pages[-1][1]
        page_done()
    for value, created_at in opening:
        # One that was removed and added again meanwhile has another time, and its own pages to go through.
        db.run(
            "UPDATE suppressions SET kind = ? WHERE kind = ? AND value = ? AND created_at = ?",
            *(RuleKind.DOMAIN, RuleKind.OPENING, value, created_at),
        )
    return blocked


def remove_rule(db: Db, rule: Rule) -> Removed:
    """Remove a rule; whom it alone kept from being mailed is active again, by address also who has bounced.

    Safe to say again, also after it was broken off. Raises Unavailable.
    """
    gone = with_patience(db, lambda: _delete(db, rule), AGAIN)
    released, after = 0, 0
    while True:
        rows, count = with_patience(db, partial(_release_page, db, rule, after), AGAIN)
        released += count
        if len(rows) < PAGE:
            return Removed(gone, released)
        after = int(rows[-1][0])


def release_imported(db: Db, subscriber_id: int) -> bool:
    """Make somebody active whom an import has blocked and no rule means; whether he was such a one.

    Of rules that go they stay blocked: this is for a person who means this one. Raises Unavailable.
    """
    return with_patience(db, lambda: _release_one(db, subscriber_id), AGAIN)


def _release_one(db: Db, subscriber_id: int) -> bool:
    take_turn(db)
    key = db.value(
        "SELECT email_key FROM subscribers WHERE id = ? AND status = ? AND status_reason = ?",
        subscriber_id, SubscriberStatus.BLOCKED, IMPORTED,
    )  # fmt: skip
    if key is None or rules_for(db, [str(key)]):
        return False
    return _move(db, [(subscriber_id, SubscriberStatus.ACTIVE, None, SubscriberStatus.BLOCKED)]) > 0


def listed(db: Db) -> Iterator[Listed]:
    """Every rule, domains first, in flat memory."""
    for kind in (RuleKind.OPENING, RuleKind.DOMAIN, RuleKind.ADDRESS):
        rows: Sequence[Row] = [("",)]
        while rows:
            rows = db.rows(
                "SELECT value, reason, created_at FROM suppressions WHERE kind = ? AND value > ?"
                " ORDER BY value LIMIT ?",
                *(kind, rows[-1][0], LISTED_AT_ONCE),
            )
            yield from (as_listed(kind, *row) for row in rows)


def as_listed(kind: RuleKind, value: str, reason: str, created_at: int) -> Listed:
    """A rule of a row of the table."""
    shown = RuleKind.ADDRESS if kind is RuleKind.ADDRESS else RuleKind.DOMAIN
    return Listed(Rule(shown, value), reason, int(created_at), is_opening=kind is RuleKind.OPENING)


def _in_turn(db: Db, write: Callable[[], T]) -> list[T]:
    """What `write` returns, done in its turn; twice where it has to be, so it must be safe to do again.

    Before there is a list, there is nothing to take turns with. An import that makes the first one meanwhile may
    have read the rules as they were; so then it is done once more, behind that import's chunk.
    """

    def attempt() -> tuple[bool, T]:
        return take_turn(db), write()

    taken, done = with_patience(db, attempt, AGAIN)
    return [done] if taken else [done, with_patience(db, attempt, AGAIN)[1]]


def add_in_turn(db: Db, wanted: Sequence[Wanted]) -> Added:
    """The same within the caller's transaction, which has taken its turn."""
    reasons = {w.rule: w.reason for w in reversed(wanted)}
    present = _present(db, list(reasons))
    new = {rule: reason for rule, reason in reasons.items() if rule not in present}
    now = db.now_ms()
    db.run_many(
        "INSERT INTO suppressions (kind, value, reason, created_at)",
        [
            (RuleKind.OPENING if r.kind is RuleKind.DOMAIN else r.kind, r.value, reason[:LONGEST_REASON], now)
            for r, reason in new.items()
        ],
    )
    # Those that were there too: their people are blocked already, unless somebody has meddled.
    keys = [rule.value for rule in reasons if rule.kind is RuleKind.ADDRESS]
    blocked = 0
    for part in parts(keys):
        # Not all in one statement: without statistics SQLite would go through all who are active instead.
        found = db.rows(f"SELECT id, status, email_key FROM subscribers WHERE email_key IN ({marks(part)})", *part)
        active = [(id_, Rule(RuleKind.ADDRESS, key)) for id_, status, key in found if status == SubscriberStatus.ACTIVE]
        blocked += _block(db, active)
    return Added(len(new), blocked)


def _present(db: Db, rules: Sequence[Rule]) -> set[Rule]:
    found = set()
    for kind in (RuleKind.ADDRESS, RuleKind.DOMAIN):
        for part in parts([rule for rule in rules if rule.kind is kind]):
            kinds = part[0].kinds
            rows = db.rows(
                f"SELECT value FROM suppressions WHERE kind IN ({marks(kinds)}) AND value IN ({marks(part)})",
                *(*kinds, *(rule.value for rule in part)),
            )
            found |= {Rule(kind, str(value)) for (value,) in rows}
    return found


def _block_page(db: Db, domains: set[str], after: str) -> tuple[int, str | None]:
    """Block those behind an address whom these domains mean: how many, and where the next page begins, if any."""
    last = db.value(
        "SELECT email_key FROM subscribers WHERE email_key > ? ORDER BY email_key LIMIT 1 OFFSET ?", after, PAGE - 1
    )
    # Those that were removed since are not to block anybody any more.
    rows = db.rows("SELECT value FROM suppressions WHERE kind = ?", RuleKind.OPENING)
    still = domains & {str(value) for (value,) in rows}
    condition, values = "email_key > ?", [after]
    if last is not None:
        condition, values = f"{condition} AND email_key <= ?", [*values, last]
    if len(still) <= MATCHED_BY_DATABASE:
        # Those who cannot be meant stay in the database; `covering` has the last word.
        ends = [end for domain in still for end in (f"%@{domain}", f"%.{domain}")]
        condition = f"{condition} AND ({' OR '.join('email_key LIKE ?' for _ in ends) or '1 = 0'})"
        values += ends
    found = db.rows(f"SELECT id, email_key FROM subscribers WHERE {condition}", *values)
    meant = [(id_, Rule(RuleKind.DOMAIN, domain)) for id_, key in found if (domain := covering(key, still))]
    return _block(db, meant), last


def _block(db: Db, people: Sequence[tuple[int, Rule]]) -> int:
    """Block those who are active; how many were."""
    return _move(db, [(id_, SubscriberStatus.BLOCKED, rule.reason, SubscriberStatus.ACTIVE) for id_, rule in people])


def _delete(db: Db, rule: Rule) -> bool:
    take_turn(db)
    gone = db.run(
        f"DELETE FROM suppressions WHERE kind IN ({marks(rule.kinds)}) AND value = ?", *(*rule.kinds, rule.value)
    )
    return gone > 0


def _release_page(db: Db, rule: Rule, after: int) -> tuple[list[Row], int]:
    """Make those active whom this rule has blocked, unless another one means them too: the page, and how many."""
    take_turn(db)
    columns = "SELECT id, email_key, status, status_reason FROM subscribers WHERE"
    if rule.kind is RuleKind.ADDRESS:
        rows = db.rows(f"{columns} email_key = ? AND id > ?", rule.value, after)
    else:
        rows = db.rows(f"{columns} status = ? AND id > ? ORDER BY id LIMIT ?", SubscriberStatus.BLOCKED, after, PAGE)
    mine = [
        (id_, key, status)
        for id_, key, status, reason in rows
        if reason == rule.reason or (status == SubscriberStatus.BOUNCED and rule.kind is RuleKind.ADDRESS)
    ]
    others = rules_for(db, [key for _, key, _ in mine])
    held = [(i, SubscriberStatus.BLOCKED, others[key].reason, was) for i, key, was in mine if key in others]
    free = [(i, SubscriberStatus.ACTIVE, None, was) for i, key, was in mine if key not in others]
    _move(db, held)
    return rows, _move(db, free)


def _move(db: Db, people: Sequence[Row]) -> int:
    """Give each of (id, status, reason, status until now) the new ones; how many were as they should be."""
    return db.update_many(
        "subscribers",
        f"status = new_status, status_reason = new_reason, bounces = 0, updated_at = {db.now_ms()}",
        {"who": "BIGINT", "new_status": "VARCHAR(20)", "new_reason": "VARCHAR(500)", "was_status": "VARCHAR(20)"},
        sorted(people),
        "id = who AND status = was_status",
    )

"""Limits per recipient domain, at each server.

A rule for `gmail.com` holds for gmail.com itself. One for `*.example.com` holds for all below example.com, which
share its tokens, and not for example.com. Of several, the exact one goes first, then the longest ending.
"""

from __future__ import annotations

from collections.abc import Iterable

from app.db import Db
from app.errors import NotFound, UsageError
from app.mail.address import BadAddress, parse_address
from app.mail.limits.domain_defaults import DEFAULTS
from app.mail.limits.kinds import DomainRule, Limits
from app.models.states import BatchState, CampaignStatus

LONGEST_LIMIT = 1_000_000_000
#: So long after a rule was changed, in ms, every sender knows it.
KNOWN_MS = 2_000


class DomainRules:
    """All rules, to find the one for an address."""

    def __init__(self, rules: Iterable[DomainRule] = ()) -> None:
        self._rules = {rule.domain: rule for rule in rules}
        self._endings = any(name.startswith("*.") for name in self._rules)

    def __bool__(self) -> bool:
        return bool(self._rules)

    def for_address(self, email: str) -> DomainRule | None:
        """The rule for a recipient, whose domain is in ASCII as `parse_address` leaves it."""
        domain = email.rpartition("@")[2].lower()
        found = self._rules.get(domain)
        while found is None and domain and self._endings:
            domain = domain.partition(".")[2]
            found = self._rules.get(f"*.{domain}")
        return found


def load_rules(db: Db) -> DomainRules:
    """The rules as they are now."""
    return DomainRules(list_rules(db))


def list_rules(db: Db) -> list[DomainRule]:
    """All rules by name."""
    rows = db.rows(
        "SELECT domain, per_second, per_minute, per_hour, per_day, created_at FROM domain_limits ORDER BY domain"
    )
    return [DomainRule(str(row[0]), Limits(*row[1:5]), int(row[5])) for row in rows]


def set_rule(
    db: Db,
    domain: str,
    *,
    now: int,
    per_second: int | None = None,
    per_minute: int | None = None,
    per_hour: int | None = None,
    per_day: int | None = None,
) -> DomainRule:
    """Add a rule, or replace all limits of the one there is. `now`: ms since 1970.

    Raises UsageError for a bad domain or limit, or when there is no limit.
    """
    limits = Limits(per_second, per_minute, per_hour, per_day)
    if not limits:
        raise UsageError(f"a rule for {domain} needs a limit: --per-second, --per-minute, --per-hour or --per-day")
    for window, limit in limits:
        if limit is not None and not 1 <= limit <= LONGEST_LIMIT:
            raise UsageError(f"--per-{window}={limit} is not allowed: 1 to {LONGEST_LIMIT}")
    name = domain_name(domain)
    values = [limit for _, limit in limits]
    with db.transaction():
        columns = "per_second = ?, per_minute = ?, per_hour = ?, per_day = ?"
        if db.run(f"UPDATE domain_limits SET {columns} WHERE domain = ?", *values, name) == 0:
            _insert(db, [(name, *values, now)])
        _end_appointments(db, now)
        since = int(db.value("SELECT created_at FROM domain_limits WHERE domain = ?", name))
    return DomainRule(name, limits, since)


def unset_rule(db: Db, domain: str, *, now: int) -> None:
    """Remove a rule. `now`: ms since 1970. Raises NotFound when there is none, UsageError for a bad domain."""
    name = domain_name(domain)
    with db.transaction():
        if db.run("DELETE FROM domain_limits WHERE domain = ?", name) == 0:
            raise NotFound(f"there is no rule for {name}; see bin/mailcrew domains list")
        _end_appointments(db, now)


def use_defaults(db: Db, *, now: int) -> list[DomainRule]:
    """Add the shipped rules for domains that have none; those that were added. `now`: ms since 1970."""
    with db.transaction():
        known = {rule.domain for rule in list_rules(db)}
        new = [DomainRule(domain, limits, now) for domain, limits in DEFAULTS.items() if domain not in known]
        if new:
            _insert(db, [(rule.domain, *(limit for _, limit in rule.limits), now) for rule in new])
    return new


def domain_name(text: str) -> str:
    """The name of a rule, in ASCII and lower case; raises UsageError when it is none."""
    bare = text.strip().removeprefix("*.")
    try:
        name = parse_address(f"x@{bare}").email.removeprefix("x@")
    except BadAddress as error:
        raise UsageError(
            f"DOMAIN={text!r} is not allowed: a domain like gmail.com, or *.example.com for all below ({error.reason})"
        ) from None
    return f"*.{name}" if text.strip().startswith("*.") else name


def _end_appointments(db: Db, now: int) -> None:
    """Batches that wait were told when by the rules as they were: they ask again. Who must wait on is told anew."""
    db.run(
        "UPDATE batches SET ready_at = ? WHERE state = ? AND ready_at > ? "
        "AND campaign_id IN (SELECT id FROM campaigns WHERE status = ?)",
        now + KNOWN_MS, BatchState.READY, now + KNOWN_MS, CampaignStatus.SENDING,
    )  # fmt: skip


def _insert(db: Db, rows: list[tuple[object, ...]]) -> None:
    db.run_many("INSERT INTO domain_limits (domain, per_second, per_minute, per_hour, per_day, created_at)", rows)

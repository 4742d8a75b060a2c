"""Rules of suppression: addresses, and domains with all below them, that are not mailed.

The rules are the truth. A subscriber's `status` and `status_reason` repeat what they say, so that sending asks
nothing; `app/lists/suppressing.py` keeps them so, and here is told which rule holds for whom.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from app.clock import in_utc
from app.db import Db
from app.db.parts import marks, parts
from app.mail.address import BadAddress, parse_address
from app.models.states import RuleKind, SubscriberStatus

#: What rules of a domain are called in the table.
OF_DOMAINS = (RuleKind.DOMAIN, RuleKind.OPENING)


@dataclass(frozen=True, slots=True)
class Rule:
    """`value`: a folded address (the key of a subscriber), or a domain in ASCII and lower case."""

    kind: RuleKind
    value: str

    def __str__(self) -> str:
        return self.value if self.kind is RuleKind.ADDRESS else f"@{self.value}"

    @property
    def kinds(self) -> tuple[RuleKind, ...]:
        """What it may be called in the table."""
        return OF_DOMAINS if self.kind is RuleKind.DOMAIN else (self.kind,)

    @property
    def reason(self) -> str:
        """The `status_reason` of those whom it blocks."""
        return f"{SubscriberStatus.BLOCKED}: {self.name}"

    @property
    def name(self) -> str:
        return "address rule" if self.kind is RuleKind.ADDRESS else f"domain rule {self}"


@dataclass(frozen=True, slots=True)
class Listed:
    """A rule as it stands in the table; `created_at` in ms. `is_opening`: it has not reached all subscribers yet."""

    rule: Rule
    reason: str
    created_at: int
    is_opening: bool = False

    def __str__(self) -> str:
        """Like `domain rule @example.com since 2026-11-22 14:03 UTC (they asked us to)`."""
        return f"{self.rule.name} since {in_utc(self.created_at)} ({self.reason})"


def parse_rule(text: str, *, bare_domain: bool = False) -> Rule:
    """The rule for `ann@example.com` or `@example.com`, with `bare_domain` also for `example.com`.

    Raises BadAddress.
    """
    text = text.strip()
    if text.startswith("@") or (bare_domain and "@" not in text):
        try:
            key = parse_address(f"x@{text.removeprefix('@')}").key
        except BadAddress as error:
            raise BadAddress(text, f"a domain is written @example.com ({error.reason})") from None
        return Rule(RuleKind.DOMAIN, key.removeprefix("x@"))
    if text and "@" not in text:
        raise BadAddress(text, "it has no @; a whole domain is written @example.com")
    return Rule(RuleKind.ADDRESS, parse_address(text).key)


def find_rule(db: Db, rule: Rule) -> Listed | None:
    """The rule as it stands in the table."""
    row = db.row(
        f"SELECT reason, created_at FROM suppressions WHERE kind IN ({marks(rule.kinds)}) AND value = ?",
        *(*rule.kinds, rule.value),
    )
    return Listed(rule, str(row[0]), int(row[1])) if row else None


def rules_for(db: Db, keys: Sequence[str]) -> dict[str, Rule]:
    """The rule that holds for each of these folded addresses; those without one are left out.

    The one for the address itself goes before that for a domain, a longer domain before a shorter one. One
    quick query when there are no rules at all.
    """
    every = tuple(RuleKind)
    if not keys or db.value(f"SELECT 1 FROM suppressions WHERE kind IN ({marks(every)}) LIMIT 1", *every) is None:
        return {}
    found = _domain_rules(db, keys, OF_DOMAINS)
    for part in parts(keys):
        rows = db.rows(
            f"SELECT value FROM suppressions WHERE kind = ? AND value IN ({marks(part)})", RuleKind.ADDRESS, *part
        )
        found |= {str(value): Rule(RuleKind.ADDRESS, str(value)) for (value,) in rows}
    return found


def opening_rules_for(db: Db, ids: Sequence[int]) -> dict[int, str]:
    """Those of these subscribers for whom a rule holds that has not reached all subscribers yet, with its reason."""
    keys = {
        str(key): int(id_)
        for part in parts(ids)
        for id_, key in db.rows(f"SELECT id, email_key FROM subscribers WHERE id IN ({marks(part)})", *part)
    }
    return {keys[key]: rule.reason for key, rule in _domain_rules(db, list(keys), (RuleKind.OPENING,)).items()}


def covering(key: str, domains: set[str]) -> str | None:
    """The longest of these domains that an address is in."""
    return next((domain for domain in domains_of(key) if domain in domains), None)


def domains_of(key: str) -> Iterator[str]:
    """The domain of an address, then those it belongs to: `a.example.com`, `example.com`."""
    domain = key.rpartition("@")[2]
    yield domain
    while domain.count(".") > 1:
        domain = domain.partition(".")[2]
        yield domain


def _domain_rules(db: Db, keys: Iterable[str], kinds: Sequence[RuleKind]) -> dict[str, Rule]:
    keys = list(keys)
    # A chunk of an import has a handful of domains; asking for each once is what makes this cheap.
    candidates = sorted({domain for key in keys for domain in domains_of(key)})
    ruled = {
        str(value)
        for part in parts(candidates)
        for (value,) in db.rows(
            f"SELECT value FROM suppressions WHERE kind IN ({marks(kinds)}) AND value IN ({marks(part)})", *kinds, *part
        )
    }
    if not ruled:
        return {}
    found = ((key, covering(key, ruled)) for key in keys)
    return {key: Rule(RuleKind.DOMAIN, domain) for key, domain in found if domain}

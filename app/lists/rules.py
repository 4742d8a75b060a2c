"""Find rules of suppression among a million, page by page, each page in the order of the key."""

from __future__ import annotations

from dataclasses import dataclass

from app.db import Db
from app.db.parts import marks
from app.lists.search import LAST, LONGEST, Place, read_place, written
from app.lists.suppressing import as_listed
from app.mail.address import BadAddress
from app.mail.suppression import OF_DOMAINS, Listed, domains_of, parse_rule
from app.models.states import RuleKind

#: In the order of the pages: what is under way first, then domains, then addresses.
WAYS = (RuleKind.OPENING, RuleKind.DOMAIN, RuleKind.ADDRESS)


@dataclass(frozen=True, slots=True)
class RulesPage:
    """`after` leads to the next page, None on the last."""

    found: list[Listed]
    after: str | None


def search_rules(db: Db, text: str, *, limit: int, after: str | None = None) -> RulesPage:
    """The rules that begin so, with or without their @; for an address first those of the domains it is in, which come
    on top of the `limit`.

    Without a text: all. Raises UsageError for an `after` that is none of ours.
    """
    wanted = _folded(text)
    start = read_place(after) if after else None
    first = [] if start else _of_its_domains(db, wanted)
    found: list[tuple[Place, Listed]] = []
    for way, kind in enumerate(WAYS):
        if (start is not None and way < start.way) or (wanted.startswith("@") and kind is RuleKind.ADDRESS):
            continue
        begins = start.key if start is not None and way == start.way else ""
        rows = _page(db, kind, wanted.removeprefix("@"), begins, limit + 1 - len(found))
        found += [(Place(way, one.rule.value, 0), one) for one in rows]
        if len(found) > limit:
            break
    more = written(found[limit - 1][0]) if len(found) > limit else None
    return RulesPage([*first, *(one for _, one in found[:limit])], more)


def count_rules(db: Db) -> dict[str, int]:
    """How many addresses and domains have one, by reading the key from end to end: 0.1 s for a million."""
    rows = {str(kind): int(count) for kind, count in db.rows("SELECT kind, COUNT(*) FROM suppressions GROUP BY kind")}
    return {"addresses": rows.get(RuleKind.ADDRESS, 0), "domains": sum(rows.get(kind, 0) for kind in OF_DOMAINS)}


def _page(db: Db, kind: RuleKind, wanted: str, after: str, limit: int) -> list[Listed]:
    rows = db.rows(
        "SELECT value, reason, created_at FROM suppressions WHERE kind = ? AND value > ? AND value >= ? AND value < ? "
        "ORDER BY value LIMIT ?",
        kind, after, wanted, wanted + LAST, limit,
    )  # fmt: skip
    return [as_listed(kind, *row) for row in rows]


def _of_its_domains(db: Db, wanted: str) -> list[Listed]:
    """The rules of domains that hold for an address, the longest first."""
    name, at, domain = wanted.partition("@")
    if not (name and at and domain):
        return []
    domains = list(domains_of(wanted))
    rows = db.rows(
        f"SELECT kind, value, reason, created_at FROM suppressions WHERE kind IN ({marks(OF_DOMAINS)}) "
        f"AND value IN ({marks(domains)})",
        *OF_DOMAINS, *domains,
    )  # fmt: skip
    found = [as_listed(RuleKind(kind), *row) for kind, *row in rows]
    return sorted(found, key=lambda one: -len(one.rule.value))


def _folded(text: str) -> str:
    """As the table writes it: a domain in other letters is found under its ASCII name."""
    wanted = " ".join(text.split())[:LONGEST].casefold()
    if wanted.isascii():
        return wanted
    try:
        return str(parse_rule(wanted, bare_domain=True))
    except BadAddress:
        return wanted

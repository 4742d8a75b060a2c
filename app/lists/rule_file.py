"""Import rules of suppression: one address or @domain a line, or a CSV whose header says which column holds them.

In flat memory, chunk by chunk, each chunk a transaction. One that was interrupted is completed by importing the
file again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from app.db import Db
from app.errors import UsageError
from app.lists.columns import EMAIL_HEADERS, BadRow, fold_header
from app.lists.importing import CHUNK_LIMIT, ROWS_A_CHUNK, Progress
from app.lists.reading import CsvReader, Record
from app.lists.rejects import Rejects
from app.lists.suppressing import LONGEST_REASON, Wanted, add_rules, reach_all
from app.mail.address import BadAddress
from app.mail.suppression import Rule, parse_rule

_DOMAIN_HEADERS = {"domain", "domains", "emaildomain", "域名", "ドメイン", "домен"}
_EITHER_HEADERS = EMAIL_HEADERS | {"address", "addresses", "value", "rule", "recipient", "地址"}
_REASON_HEADERS = {"reason", "comment", "note", "description", "原因", "备注"}
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


@dataclass(frozen=True, slots=True)
class RulesResult:
    """What an import did; `read` is the sum of the three counts after it.

    unchanged: rules that were there, once more for each row that says them. blocked: subscribers who were active
    until now.
    """

    read: int
    created: int
    unchanged: int
    rejected: int
    blocked: int
    rejects_file: str | None


@dataclass(frozen=True, slots=True)
class RuleColumns:
    """Where in a row the rule is, and the reason."""

    rule: int
    bare_domain: bool
    reason: int | None

    def wanted(self, record: Record, default: str) -> Wanted:
        """The rule in a row; raises BadRow."""
        if record.problem:
            raise BadRow(record.problem)
        cells = record.cells
        text = cells[self.rule].strip() if self.rule < len(cells) else ""
        if not text:
            raise BadRow("no address and no domain")
        try:
            rule = parse_rule(text, bare_domain=self.bare_domain)
        except BadAddress as error:
            raise BadRow(f"invalid address: {error.reason}") from None
        said = cells[self.reason] if self.reason is not None and self.reason < len(cells) else ""
        return Wanted(rule, _CONTROLS.sub(" ", said).strip()[:LONGEST_REASON] or default)


def import_rules(
    db: Db,
    source: BinaryIO,
    *,
    reason: str,
    rejects_in: Path,
    file_name: str,
    encoding: str | None = None,
    progress: Progress = lambda _bytes, _rows: None,
) -> RulesResult:
    """Add the rules in a file; `reason` is that of those which bring none of their own.

    `file_name` names the rejects file in the directory `rejects_in`. Raises UsageError, before anything is written,
    when the encoding or the header is unusable; Unavailable when the database stays away.
    """
    reader = CsvReader(source, encoding)
    rejects = Rejects(rejects_in, file_name)
    rows = rejected = created = blocked = 0
    try:
        for chunk in rule_chunks(*open_rules(reader), reason):
            rows += chunk.rows
            rejected += len(chunk.rejected)
            rejects.add_all(chunk.rejected)
            if chunk.wanted:
                added = add_rules(db, chunk.wanted)
                created += added.created
                blocked += added.blocked
            progress(reader.bytes_read, rows)
    finally:
        rejects.close()
    blocked += reach_all(db)
    path = str(rejects.path) if rejects.path else None
    return RulesResult(rows, created, rows - rejected - created, rejected, blocked, path)


@dataclass(slots=True)
class RuleChunk:
    """Rows that are written together. `rejected`: line, reason and text of those that hold no rule."""

    rows: int = 0
    size: int = 0
    by_rule: dict[Rule, Wanted] = field(default_factory=dict)
    rejected: list[tuple[int, str, str]] = field(default_factory=list)

    @property
    def wanted(self) -> list[Wanted]:
        return list(self.by_rule.values())


def rule_chunks(columns: RuleColumns, records: Iterator[Record], reason: str) -> Iterator[RuleChunk]:
    """The rows that are still to be read; the last chunk may be empty."""
    chunk = RuleChunk()
    for record in records:
        chunk.rows += 1
        chunk.size += len(record.raw)
        try:
            wanted = columns.wanted(record, reason)
            chunk.by_rule.setdefault(wanted.rule, wanted)
        except BadRow as problem:
            chunk.rejected.append((record.line, str(problem), record.raw))
        if len(chunk.by_rule) >= ROWS_A_CHUNK or chunk.size > CHUNK_LIMIT:
            yield chunk
            chunk = RuleChunk()
    yield chunk


def open_rules(reader: CsvReader) -> tuple[RuleColumns, Iterator[Record]]:
    """The columns, and the records that hold rules: the first too, when it is no header. Raises UsageError."""
    first = reader.first()
    if first is None:
        raise UsageError("the file is empty: one address or @domain a line, or a CSV with a header")
    with_rule = next((index for index, cell in enumerate(first.cells) if "@" in cell), None)
    if first.problem or with_rule is not None:
        return RuleColumns(with_rule or 0, False, None), _with(first, reader.records())
    return _by_header(first.cells), reader.records()


def _with(first: Record, rest: Iterator[Record]) -> Iterator[Record]:
    yield first
    yield from rest


def _by_header(header: Sequence[str]) -> RuleColumns:
    folded = [fold_header(cell) for cell in header]
    either = [index for index, name in enumerate(folded) if name in _EITHER_HEADERS]
    domains = [index for index, name in enumerate(folded) if name in _DOMAIN_HEADERS]
    reasons = [index for index, name in enumerate(folded) if name in _REASON_HEADERS]
    if len(either) + len(domains) != 1:
        found = ", ".join(cell.strip() or "(empty)" for cell in header)[:500]
        many = "more than one column holds" if either or domains else "no column holds"
        raise UsageError(
            f"{many} addresses or domains; the header has: {found}. One column may be called email, address or "
            "domain; a file without a header begins with an address or @domain"
        )
    return RuleColumns((either or domains)[0], bool(domains), reasons[0] if reasons else None)

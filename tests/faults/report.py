"""The published table, docs/faults.md: kept as results, so that a part of the rows can be run again."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping
from typing import Any

from app.config import ROOT
from tests.faults.proof import PROOFS, Proof
from tests.faults.rows import ROWS
from tests.faults.soak import SOAK
from tests.faults.verdict import Result, seconds

PAGE = ROOT / "docs" / "faults.md"
_BEGIN, _END = "<!-- results", "-->"
NOT_YET = "\nNot yet run.\n"

_HEAD = """# The fault matrix

Each row sends one whole campaign while something breaks, and counts at the SMTP server what arrived. Made by
`bin/faults --write`; change nothing here by hand.

**The bar.** No mail lost, none sent twice; `unknown` only where nobody can know (at most one for each connection cut
after the dot, and one for each sending thread of a worker that was killed); and the campaign becomes `sent` by itself.
A cut in the middle of a small mail counts as one after the dot: the sender's kernel had taken all of it, and what the
server had read of it nobody can ask.

**What it is measured against.** The queue library's own recovery, with one surviving worker on six queues: three of
the six had their messages back after 12.4 minutes (at 118, 600 and 679 seconds).

- *sent to*: recipients of the campaign
- *lost*: nobody has the mail, and the recipient is recorded as sent, is still open, or never became a recipient
- *twice*: recipients for whom the server accepted more than one mail
- *unknown (bound)*: recorded as unknown, and how many there may be
- *wrong*: recorded as failed without a refusal, skipped without a reason, or counted wrongly in the batches
- *next mail*, *sent after*: seconds from the last fault to the next accepted mail, and to the campaign being `sent`

| row | database | sent to | faults | lost | twice | unknown (bound) | wrong | next mail | sent after | verdict | of |
|---|---|--:|--:|--:|--:|--:|--:|--:|--:|---|---|
"""

_TAIL = """
## What the rows do

{rows}

## How it is set up

Three overlapping lists, four send workers of four threads, an expand and a periodic worker, all started as
supervisord starts them and started again when they end; a Redis and a MariaDB of their own; a strict SMTP server that
waits before each final reply, so that the campaign lasts longer than the faults. A tick comes every two seconds
instead of every minute, leases last 5 seconds (`LEASE_SECONDS=5`), cool-downs 0.5 seconds, deferrals 1–2 seconds and
the claim of an expansion 5 seconds; the sweep's ten seconds are as shipped. Faults end when 90 % of the recipients
have been answered, so that the recovery can be seen. Kills in a chosen gap come from a module loaded beside the
actors (`tests/faults/inject.py`); the product has no switch for them.

## Repeat it

```
bin/faults --jobs 3 --write                  every row on both databases, 20,000 recipients, three at a time
bin/faults kill9-workers --database sqlite   one row
bin/faults --list                            what there is
bin/faults --recipients 1000 --seconds 4     a short form
bin/faults --write ROW …                     put the results into this page
bin/faults --proof --jobs 2 --write          that each safeguard is needed
bin/faults --soak --jobs 2 --write           the soak, 20 minutes of faults
```
"""


_SOAK_HEAD = """
## The soak

One campaign, and for the whole time a fault of a random kind every 1–4 seconds; the server is as slow as it takes to
last that long. Only the recovery at the end is without faults.
"""

_PROOF_HEAD = """
## That the matrix can fail

`bin/faults --proof` breaks one safeguard after the other, from outside (`tests/faults/inject.py`), and
runs the row that shows it, up to three times, because the faults come at random. Each must fail.

| without | row | database | of | lost | twice | wrong | campaign | what happens | verdict | run |
|---|---|---|--:|--:|--:|--:|---|---|---|---|
"""


def write(results: Iterable[Result], date: str, commit: str = "") -> None:
    """Put results into the page, in the place of older ones of the same row, database and missing safeguard."""
    kept = {_key(old): old for old in read()}
    for result in results:
        new = {**result.fields(), "date": date, "commit": commit or _commit()}
        kept[_key(new)] = new
    order = {name: place for place, name in enumerate([*ROWS, SOAK])}
    known = (row for row in kept.values() if row["row"] in order)
    rows = sorted(known, key=lambda r: (r.get("without", ""), order[r["row"]], r["database"]))
    stored = "\n".join(json.dumps(row) for row in rows)
    said = "\n".join(f"- `{row.name}`: {row.says}" for row in ROWS.values())
    matrix = [row for row in rows if row["row"] in ROWS and not row.get("without")]
    table = "\n".join(_line(row) for row in matrix)
    soaks = "".join(_soak(row) for row in rows if row["row"] == SOAK)
    proofs = "".join(_proof(row, proof) for name, proof in PROOFS.items() for row in rows if row.get("without") == name)
    text = f"{_HEAD}{table}\n{_notes(matrix)}{_SOAK_HEAD}{soaks or NOT_YET}{_PROOF_HEAD}{proofs}"
    PAGE.parent.mkdir(exist_ok=True)
    # At once or not at all: an interrupted run must not leave half a page.
    new_page = PAGE.with_suffix(".new")
    new_page.write_text(f"{text}{_TAIL.format(rows=said)}\n{_BEGIN}\n{stored}\n{_END}\n")
    new_page.replace(PAGE)


def _key(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["row"], row["database"], row.get("without", "")


def _soak(row: Mapping[str, Any]) -> str:
    """A dated section of its own."""
    kinds = "\n".join(f"| {kind} | {times:,} |" for kind, times in sorted(row["kinds"].items()))
    doubts = "".join(
        f"- {times:,} unknown: {reason or 'no reason'}\n" for reason, times in sorted(row["doubts"].items())
    )
    return (
        f"\n### {row['database']}, {row['date']} ({row['commit']}): {row['verdict']}\n\n"
        f"{row['recipients']:,} recipients, {row['faults']:,} faults, {row['kills']} workers dead of SIGKILL: "
        f"lost {row['lost']}, duplicated {row['duplicated']}, unknown {row['unknown']} (at most {row['bound']}), "
        f"wrong {row['wrong']}; `{row['status']}` {seconds(row['done'])} after the last fault.\n\n"
        f"{doubts}\n| fault | times |\n|---|--:|\n{kinds}\n"
    )


def _proof(row: Mapping[str, Any], proof: Proof) -> str:
    shown = "failed, as it must" if proof.shows(Result.of(row)) else "**did not fail**"
    return (
        f"| {row['without']} | {row['row']} | {row['database']} | {row['recipients']:,} | {row['lost']} | "
        f"{row['duplicated']} | {row['wrong']} | {row['status']} | {proof.happens} | {shown} | "
        f"{row['date']}, {row['commit']} |\n"
    )


def read() -> list[dict[str, Any]]:
    """The results that the page holds."""
    if not PAGE.exists() or _BEGIN not in PAGE.read_text():
        return []
    stored = PAGE.read_text().split(_BEGIN, 1)[1].rsplit(_END, 1)[0]
    return [json.loads(line) for line in stored.splitlines() if line.strip()]


def _line(row: Mapping[str, Any]) -> str:
    run = f"{row['date']}, {row['commit']}"
    if row["status"] == "skipped":
        return f"| {row['row']} | {row['database']} | | | | | | | | | skipped: {row['reason']} | {run} |"
    verdict = row["verdict"] if row["status"] == "sent" else f"{row['verdict']} ({row['status']})"
    return (
        f"| {row['row']} | {row['database']} | {row['recipients']:,} | {row['faults']} | {row['lost']} | "
        f"{row['duplicated']} | {row['unknown']} ({row['bound']}) | {row['wrong']} | {seconds(row['resumed'])} | "
        f"{seconds(row['done'])} | {verdict} | {run} |"
    )


def _notes(rows: Iterable[Mapping[str, Any]]) -> str:
    missing = [
        f"{name} ({database})"
        for name, row in ROWS.items()
        for database in row.databases
        if not any(r["row"] == name and r["database"] == database for r in rows)
    ]
    return f"\nNot yet run: {', '.join(missing)}.\n" if missing else ""


def _commit() -> str:
    done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or "no commit"

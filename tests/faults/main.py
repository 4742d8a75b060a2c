"""`bin/faults`: run rows of the fault matrix, print what was counted, write the published table."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import closing

from tests.faults.matrix import Form
from tests.faults.one import Job
from tests.faults.parallel import run_all
from tests.faults.proof import PROOFS, shows
from tests.faults.report import write
from tests.faults.rows import ROWS
from tests.faults.soak import SOAK, soak_form
from tests.faults.verdict import Result

DATABASES = ("sqlite", "mysql")
#: How often a run without a safeguard is repeated until a random fault has hit the right instant.
PROOF_TRIES = 3


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="faults",
        description="Send a campaign while things break, count at the SMTP server, and judge. "
        "Exit code 0: every row passed (or was skipped, with its reason).",
        epilog="example: bin/faults kill9-workers redis-flushed --database sqlite --jobs 2",
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help="rows to run (default: all)")
    parser.add_argument("--database", choices=DATABASES, help="only on this one (default: on both)")
    parser.add_argument("--recipients", type=int, help="recipients of the campaign (default 20000; soak 200000)")
    parser.add_argument("--seconds", type=float, default=60, help="how long undisturbed sending lasts (default 60)")
    parser.add_argument("--deadline", type=float, default=300, help="seconds until the campaign must be sent")
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N",
        help="runs side by side (default 1). A run keeps up to half a core busy, so up to 3 on 2 cores are honest: "
        "the server's pace, not the CPU, is what they wait for; each result says how many cores it took",
    )  # fmt: skip
    parser.add_argument("--without", choices=list(PROOFS), help="break this safeguard: the rows must fail then")
    parser.add_argument(
        "--proof", action="store_true",
        help="break each safeguard in turn, in the row that shows it; exit code 0: every one of them failed as it must",
    )  # fmt: skip
    parser.add_argument("--soak", action="store_true", help="one long campaign, a random fault every 1-4 s")
    parser.add_argument("--minutes", type=float, default=20, help="how long the soak makes faults (default 20)")
    parser.add_argument("--list", action="store_true", help="say what rows there are, and run none")
    parser.add_argument("--write", action="store_true", help="put the results into docs/faults.md")
    parser.add_argument("--json", action="store_true", help="print one JSON document, nothing else, on stdout")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser()
    args = parser.parse_args(argv)
    _check(parser, args)
    if args.list:
        print("\n".join(f"{name:36} {ROWS[name].says}" for name in args.rows or ROWS))
        return 0
    results = _run(_jobs(args), args)
    if args.json:
        print(json.dumps([result.fields() for result in results], indent=1))
    if args.proof:
        return 0 if all(r.status == "skipped" or shows(r.without, r) for r in results) else 1
    return 0 if all(result.verdict != "FAILED" for result in results) else 1


def _check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    unknown = [name for name in args.rows if name not in ROWS]
    if unknown:
        parser.error(f"there is no row {unknown[0]!r}; bin/faults --list names them all")
    if args.recipients is not None and not 100 <= args.recipients <= 1_000_000:
        parser.error(f"--recipients {args.recipients} is not allowed: 100 to 1000000")
    if not 1 <= args.jobs <= 64:
        parser.error(f"--jobs {args.jobs} is not allowed: 1 to 64")
    if not 0 < args.minutes <= 24 * 60:
        parser.error(f"--minutes {args.minutes:g} is not allowed: more than 0, up to 1440")
    if args.write and args.without:
        parser.error("--write and --without do not go together: a broken product is not published; see --proof")
    if (args.soak or args.proof) and (args.rows or args.without or (args.soak and args.proof)):
        parser.error("--soak and --proof choose their rows themselves: give neither ROW nor --without, nor both")


def _jobs(args: argparse.Namespace) -> list[Job]:
    databases = [args.database] if args.database else list(DATABASES)
    if args.soak:
        return [Job(SOAK, soak_form(database, args.recipients or 200_000, args.minutes)) for database in databases]
    if args.proof:
        return [
            Job(proof.row, Form(database, proof.recipients, proof.seconds, proof.deadline), safeguard, PROOF_TRIES)
            for safeguard, proof in PROOFS.items()
            for database in databases
        ]
    return [
        Job(name, Form(database, args.recipients or 20_000, args.seconds, args.deadline), args.without or "")
        for name in args.rows or ROWS
        for database in databases
        if database in ROWS[name].databases
    ]


def _run(jobs: Sequence[Job], args: argparse.Namespace) -> list[Result]:
    """The results; also when interrupted, what is done is written."""
    # SIGTERM as Ctrl-C: what runs is ended tidily, and mounts are taken away.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    results: list[Result] = []
    try:
        with closing(run_all(jobs, args.jobs)) as coming:
            for result in coming:
                results.append(result)
                print(_line(result, args.proof), file=sys.stderr if args.json else sys.stdout, flush=True)
    finally:
        if args.write:
            write([r for r in results if r.status != "broken"], time.strftime("%Y-%m-%d"))
    return results


def _line(result: Result, proof: bool) -> str:
    if not proof or result.status == "skipped":
        return result.line()
    said = "failed, as it must" if shows(result.without, result) else "DID NOT FAIL as it must"
    return f"without {result.without:8} {said}: {result.line()}"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)

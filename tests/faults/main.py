"""`bin/faults`: run rows of the fault matrix, print what was counted, write the published table."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Sequence

from tests.faults.arena import run_row
from tests.faults.matrix import Form
from tests.faults.report import write
from tests.faults.rows import ROWS
from tests.faults.verdict import Result

SAFEGUARDS = ("journal", "lock", "fence", "sweep")


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="faults",
        description="Send a campaign while things break, count at the SMTP server, and judge. "
        "Exit code 0: every row passed (or was skipped, with its reason).",
        epilog="example: bin/faults kill9-workers redis-flushed --database sqlite",
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help="rows to run (default: all)")
    parser.add_argument("--database", choices=("sqlite", "mysql"), help="only on this one (default: on both)")
    parser.add_argument("--recipients", type=int, default=20_000, help="recipients of the campaign (default 20000)")
    parser.add_argument("--seconds", type=float, default=18, help="how long undisturbed sending lasts (default 18)")
    parser.add_argument("--deadline", type=float, default=150, help="seconds until the campaign must be sent")
    parser.add_argument("--without", choices=SAFEGUARDS, help="break this safeguard: the rows must fail then")
    parser.add_argument("--list", action="store_true", help="say what rows there are, and run none")
    parser.add_argument("--write", action="store_true", help="put the results into docs/faults.md")
    parser.add_argument("--json", action="store_true", help="print one JSON document, nothing else, on stdout")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser()
    args = parser.parse_args(argv)
    unknown = [name for name in args.rows if name not in ROWS]
    if unknown:
        parser.error(f"there is no row {unknown[0]!r}; bin/faults --list names them all")
    if not 100 <= args.recipients <= 1_000_000:
        parser.error(f"--recipients {args.recipients} is not allowed: 100 to 1000000")
    if args.write and args.without:
        parser.error("--write and --without do not go together: a broken product is not published")
    names = args.rows or list(ROWS)
    if args.list:
        print("\n".join(f"{name:36} {ROWS[name].says}" for name in names))
        return 0
    logging.disable(logging.INFO)
    results = _run(args, names)
    if args.json:
        print(json.dumps([result.fields() for result in results], indent=1))
    if args.write:
        write(results, time.strftime("%Y-%m-%d"))
    return 0 if all(result.verdict != "FAILED" for result in results) else 1


def _run(args: argparse.Namespace, names: Sequence[str]) -> list[Result]:
    results = []
    for name in names:
        for database in [args.database] if args.database else ["sqlite", "mysql"]:
            if database not in ROWS[name].databases:
                continue
            form = Form(database, args.recipients, args.seconds, args.deadline)
            result = run_row(ROWS[name], form, without=args.without)
            print(result.line(), file=sys.stderr if args.json else sys.stdout, flush=True)
            results.append(result)
    return results


if __name__ == "__main__":
    sys.exit(main())

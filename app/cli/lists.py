"""`mailcrew lists`: import people, show the lists, take someone off."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from rich.cells import cell_len

from app.cli.context import open_home
from app.cli.csv_file import opened, progress_bar, say_rejected
from app.lists.importing import ImportResult, import_csv
from app.lists.memberships import ListSummary, forget, remove, summaries, unsubscribe

_IMPORT = """\
The first line names the columns, in any order and case: email (or e-mail, email address, 邮箱 …),
name (or first name and last name, 姓名 …), status (active or unsubscribed). Every other column
becomes an attribute for templates: "First Name" is {{ first_name }} there. Exports of listmonk and
Mailchimp are read as they are. Comma, semicolon or tab. Importing again updates people; it never
subscribes again who unsubscribed. Bad rows go to a file with line and reason; the rest goes in.

example: bin/mailcrew lists import people.csv --list newsletter
         zcat big.csv.gz | bin/mailcrew lists import - --list newsletter --json
         bin/mailcrew lists import kunden.csv --list kunden --encoding windows-1252
"""


def add(commands: Any) -> None:
    """Add `lists` and its commands to the parser."""
    group = commands.add_parser(
        "lists",
        help="import people, show the lists, take someone off",
        description="Lists and the people on them.",
        epilog="example: bin/mailcrew lists import people.csv --list newsletter",
    )
    verbs = group.add_subparsers(metavar="VERB", required=True)
    _add_import(verbs)
    show = _verb(verbs, "show", _show, "show every list with its number of subscribers", "lists show --json")
    show.add_argument("--json", action="store_true", help="print one JSON array")
    taking_off: list[tuple[str, Callable[[argparse.Namespace], int], str]] = [
        ("remove", _remove, "take someone off a list; an import may bring them back"),
        ("unsubscribe", _unsubscribe, "unsubscribe someone from a list; no import brings them back"),
    ]
    for name, run, summary in taking_off:
        verb = _verb(verbs, name, run, summary, f"lists {name} newsletter ann@example.com")
        verb.add_argument("name", metavar="NAME", help="the list")
        verb.add_argument("email", metavar="EMAIL", help="whose address, in any case")
    verb = _verb(
        verbs,
        "forget",
        _forget,
        "delete a person from all lists, with name and attributes",
        "lists forget ann@example.com",
    )
    verb.add_argument("email", metavar="EMAIL", help="whose address, in any case")


def _add_import(verbs: Any) -> None:
    verb = verbs.add_parser(
        "import",
        allow_abbrev=False,
        help="import a CSV of any size into a list",
        description="Import a CSV of any size into a list, which is made when missing.",
        epilog=_IMPORT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("file", metavar="FILE.csv", help="the file; - reads standard input")
    verb.add_argument("--list", required=True, metavar="NAME", help="the list they join")
    verb.add_argument(
        "--encoding",
        metavar="E",
        help="utf-8 (the default), gb18030, windows-1252 or any other that Python knows",
    )
    verb.add_argument("--json", action="store_true", help="print the counts as one JSON object")
    verb.set_defaults(run=_import)


def _verb(
    verbs: Any, name: str, run: Callable[[argparse.Namespace], int], summary: str, example: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(
        name,
        allow_abbrev=False,
        help=summary,
        description=summary.capitalize() + ".",
        epilog=f"example: bin/mailcrew {example}",
    )
    parser.set_defaults(run=run)
    return parser


def _import(args: argparse.Namespace) -> int:
    with opened(args.file) as (source, size):
        settings, db = open_home()
        try:
            with progress_bar(size) as report:
                result = import_csv(
                    db,
                    source,
                    list_to=args.list,
                    rejects_in=settings.state / "rejects",
                    file_name=args.file,
                    encoding=args.encoding,
                    progress=report,
                )
        except KeyboardInterrupt:
            print("interrupted: import the file again to complete it", file=sys.stderr)
            raise
    _say(result, args.json)
    return 0


def _say(result: ImportResult, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(result), ensure_ascii=False))
    else:
        print(
            f"{result.list}: {result.read} rows read, {result.created} created, {result.updated} updated,"
            f" {result.unchanged} unchanged, {result.rejected} rejected"
        )
    say_rejected(result.rejected, result.rejects_file)


def _show(args: argparse.Namespace) -> int:
    _, db = open_home()
    found = list(summaries(db))
    if args.json:
        print(json.dumps([asdict(each) for each in found], ensure_ascii=False))
    elif found:
        print(_table(found))
    else:
        print("no lists yet; bin/mailcrew lists import people.csv --list NAME makes one", file=sys.stderr)
    return 0


def _table(found: list[ListSummary]) -> str:
    """Columns that line up in a terminal, where a Chinese character is two cells wide."""
    rows = [("ID", "NAME", "SUBSCRIBERS"), *((str(x.id), x.name, f"{x.subscribers:,}") for x in found)]
    ids = max(len(row[0]) for row in rows)
    names = max(cell_len(row[1]) for row in rows)
    counts = max(len(row[2]) for row in rows)
    return "\n".join(
        f"{id_:>{ids}}  {name}{' ' * (names - cell_len(name))}  {count:>{counts}}" for id_, name, count in rows
    )


def _remove(args: argparse.Namespace) -> int:
    _, db = open_home()
    if remove(db, args.name, args.email):
        print(f"{args.email} is off the list {args.name}")
    else:
        print(f"{args.email} had unsubscribed from {args.name}, and that stays so", file=sys.stderr)
    return 0


def _unsubscribe(args: argparse.Namespace) -> int:
    _, db = open_home()
    unsubscribe(db, args.name, args.email)
    print(f"{args.email} is unsubscribed from {args.name}")
    return 0


def _forget(args: argparse.Namespace) -> int:
    _, db = open_home()
    forget(db, args.email)
    print(f"{args.email} is forgotten: off every list, name and attributes deleted")
    return 0

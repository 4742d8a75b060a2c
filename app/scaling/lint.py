"""Mistakes in a rendered configuration that supervisord would accept, and that stop mails half-way."""

from __future__ import annotations

import configparser
import re
from collections.abc import Mapping

from app.scaling.alerts import Alert
from app.scaling.table import Table

REMEDY = "mend supervisor/program.conf.template or remove the file, then bin/supervisor-manager update"
_NUMBER = re.compile(r"\d+")


def lint(files: Mapping[str, str], table: Table, grace_seconds: int) -> list[Alert]:
    """What is wrong in the program files (by their path below the home)."""
    found: list[Alert] = []
    seen: dict[str, str] = {}
    for name, text in sorted(files.items()):
        parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"), strict=False)
        try:
            parser.read_string(text)
        except configparser.Error as error:
            found.append(Alert(f"lint:{name}", name, f"cannot be read: {error}", REMEDY))
            continue
        for section in parser.sections():
            if not section.startswith("program:"):
                continue
            program = section.removeprefix("program:")
            if program in seen:
                found.append(
                    Alert(f"lint:twice:{program}", name, f"{program} stands in {seen[program]} already", REMEDY)
                )
            seen.setdefault(program, name)
            found += _program(name, program, dict(parser[section]), table, grace_seconds)
    return found


def _program(file: str, program: str, values: Mapping[str, str], table: Table, grace_seconds: int) -> list[Alert]:
    found = []
    if values.get("stopasgroup", "false").strip().lower() in ("true", "yes", "on", "1"):
        why = "stopasgroup sends a second SIGTERM to what a worker started, which ends it with mails in hand"
        found.append(Alert(f"lint:stopasgroup:{program}", file, why, REMEDY))
    queue = table.queue(program) or table.queue_of_slot(program)
    if queue:
        least = max(grace_seconds, queue.timeout + 10)
        wait = values.get("stopwaitsecs", "10").strip()
        if not _NUMBER.fullmatch(wait) or int(wait) <= least:
            why = f"stopwaitsecs={wait} kills a worker that may still take {least} s to finish"
            found.append(Alert(f"lint:stopwaitsecs:{program}", file, why, REMEDY))
    return found

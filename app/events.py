"""Named events with fields; log lines are made from them, JSON in files and text on a terminal."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

_logger = logging.getLogger("mailcrew")


def emit(message: str, level: int = logging.INFO, **fields: Any) -> None:
    """Tell that something happened. `message` is constant text; what varies goes into fields."""
    if _logger.isEnabledFor(level):
        _logger.log(level, message, extra={"fields": fields})


def warn(message: str, **fields: Any) -> None:
    emit(message, logging.WARNING, **fields)


def start_logging() -> None:
    """Events and the libraries' log lines: what went wrong to stderr, the rest to stdout.

    Readable text on a terminal, JSON lines elsewhere. A log line that cannot be written is lost
    without raising: logging never breaks a send.
    """
    logging.raiseExceptions = False
    good = logging.StreamHandler(sys.stdout)
    good.addFilter(lambda record: record.levelno < logging.WARNING)
    bad = logging.StreamHandler(sys.stderr)
    bad.setLevel(logging.WARNING)
    for handler in (good, bad):
        handler.setFormatter(_Text() if handler.stream.isatty() else _Json())
    root = logging.getLogger()
    root.handlers[:] = [good, bad]
    root.setLevel(logging.WARNING)
    _logger.setLevel(logging.INFO)


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
            "pid": record.process,
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        fields = getattr(record, "fields", {})
        shown = "  ".join(f"{key}={value}" for key, value in fields.items())
        text = f"{when} {record.levelname[0]} {record.getMessage()}  {shown}".rstrip()
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text

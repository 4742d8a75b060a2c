"""Events become log lines, one JSON object each; a line that cannot be written is lost quietly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.config import ROOT


def run(program: str, **how: object) -> subprocess.CompletedProcess[str]:
    """Run a program that has started logging, in a process of its own."""
    head = "import logging, sys\nfrom app.events import emit, start_logging, warn\nstart_logging()\n"
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        [sys.executable, "-c", head + program],
        **{"cwd": ROOT, "text": True, "timeout": 100, "capture_output": True, **how},
    )


def test_an_event_is_one_line_of_json_with_its_fields() -> None:
    done = run("emit('mail sent', campaign_id=7, to='Zoë\\nx', what=object)")
    (line,) = [json.loads(text) for text in (done.stdout + done.stderr).splitlines()]
    assert (line["event"], line["level"], line["campaign_id"], line["to"]) == ("mail sent", "info", 7, "Zoë\nx")
    assert line["time"].endswith("+00:00")
    assert line["pid"] > 0


def test_what_went_wrong_goes_to_stderr() -> None:
    done = run("emit('good')\nwarn('bad', reason='why')")
    assert [json.loads(text)["event"] for text in done.stderr.splitlines()][-1] == "bad"


def test_an_exception_of_a_library_comes_with_its_traceback_in_the_same_line() -> None:
    done = run("try: 1 / 0\nexcept Exception: logging.getLogger('library').exception('oh')")
    (line,) = [json.loads(text) for text in done.stderr.splitlines()]
    assert "ZeroDivisionError" in line["traceback"]
    assert line["logger"] == "library"


@pytest.mark.parametrize("where", ["a closed pipe", "a full disk"])
def test_a_line_that_cannot_be_written_never_stops_the_program(where: str, tmp_path: Path) -> None:
    mark = tmp_path / "done"
    program = (
        "for i in range(2000): emit('x', n=i); warn('y', n=i)\n"
        f"open({str(mark)!r}, 'w').close()\nimport os; os._exit(0)"
    )
    if where == "a full disk":
        full = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, full = os.pipe()
        os.close(reader)
    done = run(program, capture_output=False, stdout=full, stderr=full)
    os.close(full)
    assert done.returncode == 0
    assert mark.exists()


@pytest.mark.parametrize("value", ["'\\udcff'", "b'\\xff'", "float('nan')", "{1: {2}}", "Exception('\\ud800')", "..."])
def test_no_value_is_too_strange_for_a_field(value: str) -> None:
    done = run(f"warn('strange', value={value})\nwarn('next')")
    assert done.returncode == 0
    assert json.loads(done.stderr.splitlines()[-1])["event"] == "next"
    assert "strange" in done.stderr


@pytest.mark.parametrize("field", ["name", "args", "msg", "time", "event"])
def test_no_name_of_a_field_breaks_the_line(field: str) -> None:
    done = run(f"warn('said', **{{{field!r}: 'x'}})\nwarn('next')")
    assert [json.loads(text) for text in done.stderr.splitlines()][-1]["event"] == "next"
    assert len(done.stderr.splitlines()) == 2

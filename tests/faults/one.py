"""One run in a process of its own, because models, broker and the server's interpreter are one a process.

    python -m tests.faults.one '{"row": …, "without": …, "tries": …, "form": {…}}'

Prints the result as JSON on stdout.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from dataclasses import asdict, dataclass

from app.config import ROOT
from tests.faults.arena import run_row
from tests.faults.matrix import Form
from tests.faults.proof import shows
from tests.faults.rows import ROWS
from tests.faults.soak import SOAK, soak_row
from tests.faults.verdict import Result


@dataclass(frozen=True)
class Job:
    """What to run. `tries`: without a safeguard, how often at most until its absence shows."""

    row: str
    form: Form
    without: str = ""
    tries: int = 1

    def start(self) -> subprocess.Popen[str]:
        """Run it beside this process; in a session of its own, so that Ctrl-C reaches it only through us."""
        command = [sys.executable, "-P", "-m", "tests.faults.one", json.dumps(asdict(self))]
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True, start_new_session=True)


def run(job: Job) -> Result:
    """Run it in this process."""
    row = soak_row() if job.row == SOAK else ROWS[job.row]
    for _ in range(job.tries):
        result = run_row(row, job.form, without=job.without or None)
        if result.status == "skipped" or shows(job.without, result):
            break
    return result


def main() -> int:
    said = json.loads(sys.argv[1])
    logging.disable(logging.INFO)
    result = run(Job(**{**said, "form": Form(**said["form"])}))
    print(json.dumps(asdict(result)))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)

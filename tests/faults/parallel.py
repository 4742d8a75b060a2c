"""Runs side by side, each in a process of its own; their results as they come."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Generator, Sequence
from queue import SimpleQueue

from tests.faults.one import Job
from tests.faults.verdict import Result


def run_all(jobs: Sequence[Job], at_once: int) -> Generator[Result]:
    """Every job's result, in the order in which they end. Closed or interrupted, it ends what runs, tidily."""
    waiting, done = deque(jobs), SimpleQueue[Result]()
    running: list[subprocess.Popen[str]] = []
    try:
        for _ in range(min(at_once, len(jobs))):
            _start(waiting.popleft(), running, done)
        for _ in jobs:
            yield done.get()
            if waiting:
                _start(waiting.popleft(), running, done)
    finally:
        for process in running:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        for process in running:
            process.wait()


def _start(job: Job, running: list[subprocess.Popen[str]], done: SimpleQueue[Result]) -> None:
    process = job.start()
    running.append(process)
    threading.Thread(target=_await, args=(job, process, done), daemon=True).start()


def _await(job: Job, process: subprocess.Popen[str], done: SimpleQueue[Result]) -> None:
    assert process.stdout
    said = process.stdout.read()
    code = process.wait()
    if code == 0:
        done.put(Result(**json.loads(said.splitlines()[-1])))
    else:
        broken = Result(job.row, job.form.database, job.form.recipients, status="broken", without=job.without)
        broken.reason = f"the harness itself ended with exit code {code}"
        done.put(broken)

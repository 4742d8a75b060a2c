"""Where the time of sending goes, for `bench.sending --profile`: by statement, by component, by function."""

from __future__ import annotations

import cProfile
import pstats
import re
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.campaigns.service import SendService
from app.config import ROOT
from bench.common import Place


def by_statement(place: Place, threads: int) -> None:
    """Wall time of each kind of database statement while `threads` threads send one campaign."""
    database: Any = place.db.peewee
    spent: defaultdict[str, float] = defaultdict(float)
    calls: Counter[str] = Counter()
    lock = threading.Lock()

    def timed(call: Callable[..., Any], label: Callable[..., str]) -> Callable[..., Any]:
        def run(*args: Any, **options: Any) -> Any:
            started = time.perf_counter()
            try:
                return call(*args, **options)
            finally:
                took, name = time.perf_counter() - started, label(*args)
                with lock:
                    spent[name] += took
                    calls[name] += 1

        return run

    originals = (database.execute_sql, database.commit)
    database.execute_sql = timed(originals[0], lambda sql, *_: _kind(sql))
    database.commit = timed(originals[1], lambda *_: "COMMIT")
    try:
        sent, seconds, cpu = _send_all(place, threads)
    finally:
        database.execute_sql, database.commit = originals
    print(
        f"{place.database}, {threads} thread(s): {sent:,} mails, {sent / seconds:,.0f}/s, "
        f"{seconds * 1e6 / sent:.1f} µs a mail, {cpu * 1e6 / sent:.1f} of them CPU of this process"
    )
    print("  µs a mail and sending thread in the database, calls a mail, ms a call:")
    for name, took in sorted(spent.items(), key=lambda item: -item[1])[:12]:
        each = took * 1000 / calls[name]
        print(f"  {took * 1e6 / sent / threads:8.2f}  {calls[name] / sent:7.4f}  {each:7.3f}  {name}")


def by_function(place: Place) -> None:
    """All threads of one connection under cProfile, which makes Python code look dearer than system calls."""
    profilers: list[cProfile.Profile] = []

    def begin(*_: object) -> None:
        # The first event of a new thread: from here on the C profiler listens instead.
        profilers.append(cProfile.Profile())
        profilers[-1].enable()

    threading.setprofile(begin)
    try:
        sent, _, _ = _send_all(place, 1)
    finally:
        threading.setprofile(None)
    stats: Any = pstats.Stats(*profilers)
    parts: Counter[str] = Counter()
    for (file, _, function), (_, _, own, _, _) in stats.stats.items():
        parts[_component(file, function)] += own * 1e6 / sent
    print(f"{place.database}, one connection under the profiler, µs a mail by component, waiting included:")
    for part, spent in parts.most_common(25):
        print(f"  {spent:7.2f}  {part}")
    stats.sort_stats("tottime").print_stats(35)


def _send_all(place: Place, threads: int) -> tuple[int, float, float]:
    """(mails sent, seconds, CPU seconds)."""
    service = SendService(place.db, place.settings, threads=threads, stop=threading.Event())

    def drain() -> None:
        while service.work():
            pass
        place.db.close()

    workers = [threading.Thread(target=drain) for _ in range(threads)]
    began, cpu_before = time.perf_counter(), time.process_time()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu_before
    service.close()
    return service.sent, seconds, cpu


def _kind(sql: str) -> str:
    """A statement without what differs from call to call."""
    short = re.sub(r"( UNION ALL SELECT [?%s, ]+)+", " …", sql)
    return re.sub(r"\s+", " ", short)[:130]


def _component(file: str, function: str) -> str:
    path = Path(file)
    if ROOT in path.parents and ".venv" not in path.parts:
        return str(path.relative_to(ROOT))
    return f"{path.parent.name}/{path.name}" if path.suffix == ".py" else function

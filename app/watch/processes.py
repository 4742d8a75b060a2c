"""What is wrong with the processes and queues of a picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from app.scaling.alerts import Alert, Kind, Severity
from app.watch.picture import Owner, Picture

#: Work that has waited so long with nobody there is no moment between two workers.
NOBODY_SECONDS = 60.0
BAD_STATES = frozenset({"FATAL", "BACKOFF", "EXITED", "UNKNOWN"})
#: Who tells of what: supervisord of processes, Redis of heartbeats, both and the database of backlogs.
PROCESSES, HEARTBEATS, BACKLOGS = "processes", "heartbeats", "backlogs"


def process_alerts(picture: Picture) -> list[Alert]:
    """supervisord, its processes, the workers' heartbeats, the backlogs."""
    found = []
    if "table" in picture.troubles:
        what, remedy = picture.troubles["table"], "mend it, then bin/supervisor-manager update"
        found.append(Alert("table", "queues", what, remedy, "table", values={"what": what}))
    if "supervisord" in picture.troubles:
        what = picture.troubles["supervisord"]
        return [*found, _supervisord("supervisord_mute", what, "see logs/supervisord.log", {"what": what})]
    if picture.state is None:
        return [*found, _supervisord("supervisord", "does not run", "bin/supervisor-manager start", {})]
    if picture.state != "RUNNING":
        what, values = f"is in state {picture.state}", {"what": picture.state}
        # While it stops, start refuses; stop waits for the end.
        stop = "bin/supervisor-manager stop, which waits for its end, then " if picture.state == "SHUTDOWN" else ""
        return [*found, _supervisord("supervisord_mute", what, f"{stop}bin/supervisor-manager start", values)]
    found += _states(picture)
    for owner in picture.owners:
        found += _silent(picture, owner)
        found += _behind(picture, owner)
    return found


def _supervisord(kind: Kind, what: str, remedy: str, values: Mapping[str, str | int]) -> Alert:
    return Alert("supervisord", "supervisord", what, remedy, kind, Severity.CRITICAL, values)


def _states(picture: Picture) -> Iterator[Alert]:
    autostart = {c.group for c in picture.configured if c.autostart}
    by_itself = autostart - {group.name for owner in picture.owners for group in owner.groups if group.stopped_by_hand}
    for owner in picture.owners:
        for group in owner.groups:
            for process in group.processes:
                key, name = f"process:{process.name}", process.name
                if process.state in BAD_STATES:
                    detail = f" ({process.detail})" if process.detail else ""
                    what, logs = f"is {process.state}{detail}", f"bin/supervisor-manager logs {name} --errors"
                    values: dict[str, str | int] = {"process": name, "state": process.state, "detail": process.detail}
                    yield Alert(key, name, what, logs, "process_down", values=values, source=PROCESSES)
                elif process.state == "STOPPED" and group.name in by_itself and not group.is_slot:
                    start, what = f"bin/supervisor-manager start {group.name}", "is STOPPED, and not by our stop"
                    yield Alert(key, name, what, start, "process_stopped", values={"process": name}, source=PROCESSES)


def _silent(picture: Picture, owner: Owner) -> Iterator[Alert]:
    if owner.kind == "service":
        return
    for process in owner.processes:
        name = process.name
        if trouble := picture.restarts.get(name):
            what = f"ended {trouble.count} times in a row right after its start ({trouble.reason})"
            values: dict[str, str | int] = {"process": name, "n": trouble.count, "reason": trouble.reason}
            logs = f"bin/supervisor-manager logs {owner.name} --errors"
            yield Alert(f"process:{name}", name, what, logs, "process_dies", values=values, source=PROCESSES)
            continue
        if picture.is_silent(process):
            what = f"runs (pid {process.pid}) and has not been heard of for 15 s: frozen, or cut off from Redis"
            kill = f"kill -9 {process.pid} has it replaced"
            values = {"process": name, "pid": str(process.pid)}
            yield Alert(f"silent:{name}", name, what, kill, "silent", values=values, source=HEARTBEATS)


def _behind(picture: Picture, owner: Owner) -> Iterator[Alert]:
    queue = picture.table.queue(owner.name) if picture.table else None
    backlog = owner.load.backlog or 0
    if queue is None or not backlog:
        return
    name, unit = owner.name, "recipients" if owner.name == "send" else "tasks"
    oldest = owner.load.oldest_seconds or 0.0
    if owner.running == 0 and not owner.stopped_by_hand:
        if oldest >= NOBODY_SECONDS:
            start = "bin/supervisor-manager start" if queue.processes else "give it processes in the table of queues"
            what = f"{backlog:,} {unit} wait and no worker runs"
            values: dict[str, str | int] = {"queue": name, "n": backlog}
            yield Alert(f"nobody:{name}", name, what, start, "nobody", Severity.CRITICAL, values, BACKLOGS)
    elif backlog >= queue.backlog_alert:
        what = f"{backlog:,} {unit} wait, the oldest for {_minutes(oldest)} (alert from {queue.backlog_alert:,})"
        remedy = (
            f"bin/supervisor-manager start {name}"
            if owner.stopped_by_hand
            else (f"more workers: bin/supervisor-manager scale {name} {owner.running + 2}")
        )
        values = {"queue": name, "n": backlog, "limit": queue.backlog_alert}
        kind: Kind = "backlog_stopped" if owner.stopped_by_hand else "backlog"
        yield Alert(f"backlog:{name}", name, what, remedy, kind, values=values, source=BACKLOGS)


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"

"""What is wrong with the processes and queues of a picture."""

from __future__ import annotations

from collections.abc import Iterator

from app.scaling.alerts import Alert
from app.scaling.table import SLOT_NAME
from app.watch.picture import HEARD_AFTER_SECONDS, Owner, Picture

#: Work that has waited so long with nobody there is no moment between two workers.
NOBODY_SECONDS = 60.0
BAD_STATES = frozenset({"FATAL", "BACKOFF", "EXITED", "UNKNOWN"})


def process_alerts(picture: Picture) -> list[Alert]:
    """supervisord, its processes, the workers' heartbeats, the backlogs."""
    found = []
    if "table" in picture.troubles:
        remedy = "mend it, then bin/supervisor-manager update"
        found.append(Alert("table", "queues", picture.troubles["table"], remedy))
    if "supervisord" in picture.troubles:
        return [
            *found,
            Alert("supervisord", "supervisord", picture.troubles["supervisord"], "see logs/supervisord.log"),
        ]
    if picture.state != "RUNNING":
        what = "does not run" if picture.state is None else f"is in state {picture.state}"
        return [*found, Alert("supervisord", "supervisord", what, "bin/supervisor-manager start")]
    found += _states(picture)
    for owner in picture.owners:
        found += _silent(picture, owner)
        found += _behind(picture, owner)
    return found


def _states(picture: Picture) -> Iterator[Alert]:
    autostart = {c.group for c in picture.configured if c.autostart}
    by_itself = autostart - {group.name for owner in picture.owners for group in owner.groups if group.stopped_by_hand}
    for owner in picture.owners:
        for group in owner.groups:
            for process in group.processes:
                logs = f"bin/supervisor-manager logs {process.name} --errors"
                if process.state in BAD_STATES:
                    detail = f" ({process.detail})" if process.detail else ""
                    yield Alert(f"process:{process.name}", process.name, f"is {process.state}{detail}", logs)
                # A slot is stopped by who takes it away, a moment before it is gone.
                elif process.state == "STOPPED" and group.name in by_itself and not SLOT_NAME.fullmatch(group.name):
                    start = f"bin/supervisor-manager start {group.name}"
                    yield Alert(f"process:{process.name}", process.name, "is STOPPED, and not by our stop", start)


def _silent(picture: Picture, owner: Owner) -> Iterator[Alert]:
    if owner.kind == "service":
        return
    for process in owner.processes:
        running = process.state == "RUNNING" and process.uptime > HEARD_AFTER_SECONDS
        if trouble := picture.restarts.get(process.name):
            what = f"ended {trouble.count} times in a row right after its start ({trouble.reason})"
            yield Alert(
                f"process:{process.name}", process.name, what, f"bin/supervisor-manager logs {owner.name} --errors"
            )
            continue
        if running and picture.heartbeats is not None and picture.heartbeat(process) is None:
            what = f"runs (pid {process.pid}) and has not been heard of for 15 s: frozen, or cut off from Redis"
            yield Alert(f"silent:{process.name}", process.name, what, f"kill -9 {process.pid} has it replaced")


def _behind(picture: Picture, owner: Owner) -> Iterator[Alert]:
    queue = picture.table.queue(owner.name) if picture.table else None
    backlog = owner.load.backlog or 0
    if queue is None or not backlog:
        return
    unit = "recipients" if owner.name == "send" else "tasks"
    oldest = owner.load.oldest_seconds or 0.0
    if owner.running == 0 and not owner.stopped_by_hand:
        if oldest >= NOBODY_SECONDS:
            start = "bin/supervisor-manager start" if queue.processes else "give it processes in the table of queues"
            yield Alert(f"nobody:{owner.name}", owner.name, f"{backlog:,} {unit} wait and no worker runs", start)
    elif backlog >= queue.backlog_alert:
        what = f"{backlog:,} {unit} wait, the oldest for {_minutes(oldest)} (alert from {queue.backlog_alert:,})"
        remedy = (
            f"bin/supervisor-manager start {owner.name}"
            if owner.stopped_by_hand
            else (f"more workers: bin/supervisor-manager scale {owner.name} {owner.running + 2}")
        )
        yield Alert(f"backlog:{owner.name}", owner.name, what, remedy)


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"

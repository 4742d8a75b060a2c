"""How many more workers the machine, the database and the SMTP servers can carry."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from app.db import Db
from app.models.states import CampaignStatus
from app.scaling.demand import Seen
from app.scaling.policy import Ceiling
from app.scaling.supervisord import Process
from app.scaling.table import BOOSTED, MONITOR, Queue, Table

#: Left to everything else on the machine, in MB.
RESERVE_MB = 256
#: Left to people and commands, in connections.
RESERVE_CONNECTIONS = 10
#: A worker younger than this may not have opened all its database connections yet, in seconds.
YOUNG_SECONDS = 30
#: In what holds a campaign when it is a limit that was used up, and not a server's trouble.
LIMIT = " limit of "

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Room:
    """What is free for more workers, everything promised to present ones taken off; None: no limit known.

    Below zero there is a lack: workers have to go, or something breaks.
    """

    memory_mb: float | None
    connections: int | None

    def ceilings(self, queue: Queue, present: int) -> tuple[Ceiling, ...]:
        """What the room allows a queue that has `present` workers; less than those when there is a lack.

        A lack of less than a whole worker takes nobody away: what is free wavers, and the reserve is there for it.
        """
        found = []
        if self.memory_mb is not None:
            found.append(Ceiling("memory", max(0, present + int(self.memory_mb / queue.memory))))
        if self.connections is not None:
            more = int(self.connections / connections_of(queue))
            found.append(Ceiling("database connections", max(0, present + more)))
        return tuple(found)

    def less(self, queue: Queue, workers: int) -> Room:
        """The room once `workers` more of a queue have been started."""
        return Room(
            None if self.memory_mb is None else self.memory_mb - workers * queue.memory,
            None if self.connections is None else self.connections - workers * connections_of(queue),
        )

    def after(self, going: Iterable[tuple[Queue, int]]) -> Room:
        """The room once so many workers of these queues have gone: that makes up for a lack, and makes no room yet."""
        queues = list(going)
        memory, connections = self.memory_mb, self.connections
        if memory is not None and memory < 0:
            memory = min(0.0, memory + sum(queue.memory * count for queue, count in queues))
        if connections is not None and connections < 0:
            connections = min(0, connections + sum(connections_of(queue) * count for queue, count in queues))
        return Room(memory, connections)


@dataclass(frozen=True)
class Present:
    """A worker of this host: what it is, what it holds now, and whether it is still opening its connections."""

    queue: Queue
    rss_mb: float
    young: bool
    leaving: bool = False


def present_workers(processes: Iterable[Process], table: Table, seen: Seen) -> list[Present]:
    """The workers among supervisord's processes, those that are leaving too."""
    return [
        Present(queue, seen.resident(p.pid), p.uptime < YOUNG_SECONDS, p.state == "STOPPING")
        for p in processes
        if p.pid and (queue := table.queue(p.group) or table.queue_of_slot(p.group))
    ]


def connections_of(queue: Queue) -> int:
    """Database connections that one worker may open: each thread its own and its clerk's, and those of helpers."""
    serves_campaigns = any(name == BOOSTED or name.startswith("campaign_") for name in queue.queues)
    if serves_campaigns:
        return 2 * queue.threads + 3
    # Who keeps the runs of checks has one of his own.
    return queue.threads + (2 if MONITOR in queue.queues else 1)


def free_room(db: Db | None, present: Iterable[Present]) -> Room:
    """What is free now. Workers may grow up to their memory limit, so that much is theirs."""
    workers = list(present)
    memory, connections = available_mb(), free_connections(db) if db else None
    promised = sum(max(0.0, worker.queue.memory - worker.rss_mb) for worker in workers)
    opening = sum(connections_of(worker.queue) for worker in workers if worker.young)
    room = Room(
        None if memory is None else memory - RESERVE_MB - promised,
        None if connections is None else connections - RESERVE_CONNECTIONS - opening,
    )
    return room.after((worker.queue, 1) for worker in workers if worker.leaving)


def free_connections(db: Db) -> int | None:
    """Connections that the database still grants; None for SQLite, which has no limit."""
    if db.dialect != "mysql":
        return None
    used = db.row("SHOW GLOBAL STATUS LIKE 'Threads_connected'")
    return int(db.value("SELECT @@max_connections")) - int(used[1] if used else 0)


def available_mb() -> float | None:
    """Memory that new processes may take here, in MB: the machine's or the container's; None when nobody says."""
    found = [value for value in (_machine_mb(), _container_mb()) if value is not None]
    return min(found) if found else None


def smtp_ceilings(db: Db, queue: Queue) -> tuple[Ceiling, ...]:
    """What the servers of the sending campaigns allow at a time. One without a limit makes it no ceiling.

    One that only cools down still counts.
    """
    rows = db.rows(
        "SELECT DISTINCT s.id, s.max_connections FROM campaigns c JOIN campaign_servers cs ON cs.campaign_id = c.id "
        "JOIN servers s ON s.id = cs.server_id WHERE c.status = ? AND s.state = 'active'",
        CampaignStatus.SENDING,
    )
    if not rows or any(row[1] is None for row in rows):
        return ()
    return (Ceiling("SMTP connections", max(1, sum(int(row[1]) for row in rows) // queue.threads), hard=False),)


def limit_ceilings(seen: Seen, busy: int, present: int) -> tuple[Ceiling, ...]:
    """What is useful while limits hold up every campaign that has something to send: those at work, and one more.

    Then more workers send nothing more. As soon as one campaign is not held any more, nothing of this binds.
    """
    if seen.recipients is None or seen.boosts is None:
        return ()
    shared = [one for one in seen.recipients.values() if one.campaign_id not in seen.boosts]
    waiting = [one for one in shared if one.due or one.leased]
    if not waiting or not all(one.held_by and LIMIT in one.held_by for one in waiting):
        return ()
    names = sorted({str(one.held_by) for one in waiting})
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return (Ceiling(f"SMTP limit ({names[0]}{more})", max(1, min(present, busy + 1)), hard=False),)


def _machine_mb() -> float | None:
    try:
        line = next(line for line in MEMINFO.read_text().splitlines() if line.startswith("MemAvailable:"))
        return int(line.split()[1]) * 1024 / 1e6
    except (OSError, StopIteration, ValueError, IndexError):
        return None  # not Linux's


def _container_mb() -> float | None:
    try:
        limit, used = (int((CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        stat = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None  # no container, no limit ("max"), or version 1
    # Pages of files that nobody uses now are given back before anybody is refused.
    return (limit - used + int(stat.get("inactive_file", 0))) / 1e6

"""What a table declares: processes, the memory they may take, the database connections they may open."""

from __future__ import annotations

from dataclasses import dataclass

from app.scaling.ceilings import RESERVE_CONNECTIONS, connections_of
from app.scaling.table import EMBEDDED_REDIS, Queue, Service, Table

#: What one service is counted with, in MB; most take less, a web server with a child about this.
SERVICE_MEMORY_MB = 128


@dataclass(frozen=True)
class Declared:
    """Sums over a table: with every queue at its floor, and with every queue at its maximum."""

    processes: int
    max_processes: int
    memory_mb: int
    max_memory_mb: int
    max_connections: int


def declared(table: Table, redis_is_embedded: bool) -> Declared:
    """The sums. Services that only a person starts are not in them."""
    services = [s for s in table.services if s.autostart and (s.when != EMBEDDED_REDIS or redis_is_embedded)]
    memory = sum(memory_of(service) for service in services)
    return Declared(
        processes=len(services) + sum(q.processes for q in table.queues),
        max_processes=len(services) + sum(_most(q) for q in table.queues),
        memory_mb=memory + sum(q.processes * q.memory for q in table.queues),
        max_memory_mb=memory + sum(_most(q) * q.memory for q in table.queues),
        max_connections=RESERVE_CONNECTIONS + sum(_most(q) * connections_of(q) for q in table.queues),
    )


def memory_of(_service: Service) -> int:
    """MB that a service is counted with."""
    return SERVICE_MEMORY_MB


def _most(queue: Queue) -> int:
    """A queue that has no process is not scaled either: nobody works for it."""
    return queue.max if queue.processes else 0

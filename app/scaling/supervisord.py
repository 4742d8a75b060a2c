"""A typed client of one home's supervisord, over its unix socket.

No call here waits for a process: supervisord serves one request at a time, so who waits asks again.
"""

from __future__ import annotations

import xmlrpc.client
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

from supervisor.xmlrpc import Faults, SupervisorTransport, UnixStreamHTTPConnection

from app.errors import NotFound, Refused, Unavailable

TIMEOUT = 10.0

# The states of a process (supervisor's states.py). WANTED: it has a pid or will have one by itself.
WANTED = frozenset({"STARTING", "RUNNING", "BACKOFF"})
ALIVE = WANTED | {"STOPPING"}


@dataclass(frozen=True)
class Process:
    """One supervised process; `since` is Unix time of its last change of state, 0 when it has none."""

    group: str
    name: str
    state: str
    pid: int
    since: int
    now: int
    detail: str

    @property
    def uptime(self) -> int:
        """Seconds it has been running; 0 when it is not."""
        return max(0, self.now - self.since) if self.state == "RUNNING" else 0


@dataclass(frozen=True)
class Configured:
    """What supervisord read about one process; `in_use`: its group has been added."""

    group: str
    name: str
    autostart: bool
    priority: int
    stop_wait: int
    in_use: bool


@dataclass(frozen=True)
class Reread:
    """Groups in the files compared with groups in use."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]


class Supervisord:
    """The supervisord behind `socket`; raises Unavailable when it does not answer."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self._transport = _Transport(socket)
        # The address is not looked at: the transport knows the socket.
        self._proxy = xmlrpc.client.ServerProxy("http://localhost", transport=self._transport)

    def close(self) -> None:
        self._transport.close()

    def state(self) -> str | None:
        """RUNNING, SHUTDOWN (on its way down) or another word of its own; None when nobody answers."""
        try:
            return str(self._call("getState")["statename"])
        except _ShuttingDown:
            return "SHUTDOWN"
        except _NobodyThere:
            return None

    def pid(self) -> int:
        return int(self._call("getPID"))

    def processes(self) -> list[Process]:
        """Every process of every group in use."""
        return [
            Process(
                group=p["group"],
                name=p["name"],
                state=p["statename"],
                pid=p["pid"],
                since=p["start"],
                now=p["now"],
                detail=p["spawnerr"] or p["description"],
            )
            for p in self._call("getAllProcessInfo")
        ]

    def configured(self) -> list[Configured]:
        """Every process in the files as they were last read."""
        return [
            Configured(
                group=c["group"],
                name=c["name"],
                autostart=c["autostart"],
                priority=c["group_prio"],
                stop_wait=c["stopwaitsecs"],
                in_use=c["inuse"],
            )
            for c in self._call("getAllConfigInfo")
        ]

    def reread(self) -> Reread:
        """Read the files again and compare; raises Refused when one of them cannot be read."""
        added, changed, removed = self._call("reloadConfig")[0]
        return Reread(tuple(added), tuple(changed), tuple(removed))

    def add(self, group: str) -> None:
        """Take a group from the files into use; its autostart processes start."""
        self._call("addProcessGroup", group)

    def remove(self, group: str) -> None:
        """Take a group out of use; raises Refused while one of its processes is not down."""
        self._call("removeProcessGroup", group)

    def start_group(self, group: str) -> None:
        """Start every process of a group that is down; raises Refused when one cannot be executed."""
        for result in self._call("startProcessGroup", group, False):
            if result["status"] not in (Faults.SUCCESS, Faults.ALREADY_STARTED):
                raise Refused(f"{result['name']} cannot be started: {result['description']}")

    def stop_group(self, group: str) -> None:
        """Send every running process of a group its SIGTERM."""
        self._call("stopProcessGroup", group, False)

    def start_process(self, process: Process) -> None:
        """Start one process that is down; raises Refused when it is not, or cannot be executed."""
        self._call("startProcess", f"{process.group}:{process.name}", False)

    def stop_process(self, process: Process) -> None:
        """Send one process its SIGTERM and let it stay down; raises Refused when it is not running."""
        self._call("stopProcess", f"{process.group}:{process.name}", False)

    def signal(self, process: Process, name: str) -> None:
        """Send one process a signal; raises Refused when it is not running."""
        self._call("signalProcess", f"{process.group}:{process.name}", name)

    def shutdown(self) -> None:
        """Stop every group, the highest priority number first, then supervisord itself."""
        self._call("shutdown")

    def _call(self, method: str, *arguments: Any) -> Any:
        try:
            return getattr(self._proxy.supervisor, method)(*arguments)
        except xmlrpc.client.Fault as fault:
            raise _refusal(fault) from fault
        except PermissionError as error:
            raise Unavailable(f"{self.socket} belongs to another user ({error})") from error
        except (FileNotFoundError, ConnectionError) as error:
            self._transport.close()
            raise _NobodyThere(
                f"supervisord does not answer on {self.socket} ({error}); bin/supervisor-manager start"
            ) from error
        except (OSError, HTTPException, xmlrpc.client.Error) as error:
            self._transport.close()
            raise Unavailable(f"supervisord on {self.socket} gave no usable answer: {error}") from error


class _NobodyThere(Unavailable):
    """Raised when no process listens on the socket."""


class _ShuttingDown(Unavailable):
    """Raised when supervisord is on its way down and refuses everything else."""


def _refusal(fault: xmlrpc.client.Fault) -> Exception:
    if fault.faultCode == Faults.SHUTDOWN_STATE:
        return _ShuttingDown("supervisord is stopping; try again when it has stopped")
    if fault.faultCode == Faults.BAD_NAME:
        return NotFound(f"supervisord knows no {fault.faultString.removeprefix('BAD_NAME: ')!r}")
    return Refused(f"supervisord refused: {fault.faultString}")


class _Connection(UnixStreamHTTPConnection):  # type: ignore[misc]
    """supervisor's own connection has no timeout, and a stopped supervisord would hold us for ever."""

    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(TIMEOUT)


class _Transport(SupervisorTransport):  # type: ignore[misc]
    def __init__(self, socket: Path) -> None:
        super().__init__(serverurl=f"unix://{socket}")

        def connection() -> _Connection:
            made = _Connection("localhost")
            made.socketfile = str(socket)
            return made

        self._get_connection = connection

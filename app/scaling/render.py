"""The text of every configuration file, from the table and the settings. Nothing here reads or writes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

from app.config import Settings
from app.errors import Refused, UsageError
from app.scaling.table import EMBEDDED_REDIS, FOUNDATION, Queue, Service, Table

# `.PID` is added to it while supervisord binds, and the whole must fit behind the longest directory.
SOCKET_NAME = "super.sock"
SUPERVISORD = "supervisord.conf"
REDIS = "redis.conf"
TEMPLATES = (SUPERVISORD, "program.conf", REDIS)

# A foundation carries this in its environment, so that `stop` leaves it for last even as an orphan.
STOP_LAST = "MAILCREW_STOP_LAST"

# What supervisord's parser, its [include] pattern or redis.conf would read as something else.
UNSAFE_IN_PATHS = re.compile(r"[\x00-\x1f\"'\\;#*?\[\]]")


@dataclass(frozen=True)
class Machine:
    """What rendering must know about the machine; `redis_server` may be None when none is embedded."""

    python: Path
    root: Path
    redis_server: Path | None
    is_root: bool


@dataclass(frozen=True)
class Renderer:
    """Values in, text out: `all()` gives every file by its path below the home."""

    templates: Mapping[str, str]
    settings: Settings
    machine: Machine

    def all(self, table: Table, stopped: frozenset[str] = frozenset()) -> dict[str, str]:
        """Every file; the groups in `stopped` were stopped by a person and do not start by themselves."""
        self._refuse_unsafe_paths()
        files = {SUPERVISORD: self._supervisord()}
        if self.settings.redis_is_embedded:
            files[REDIS] = self._redis()
        for queue in table.queues:
            text = self.worker(queue, queue.name, queue.processes, stopped=queue.name in stopped)
            files[f"conf.d/{queue.name}.conf"] = text
        for service in table.services:
            if service.when != EMBEDDED_REDIS or self.settings.redis_is_embedded:
                files[f"conf.d/{service.name}.conf"] = self.service(service, service.name in stopped)
        return files

    def worker(
        self,
        queue: Queue,
        program: str,
        processes: int,
        queues: tuple[str, ...] | None = None,
        stopped: bool = False,
    ) -> str:
        """A group called `program` of `processes` workers like those of `queue`, serving `queues`."""
        words = [
            *(["nice", "-n", str(queue.nice)] if queue.nice else []),
            *(str(self.machine.python), str(self.machine.root / "bin/worker")),
            *("--queues", ",".join(queues or queue.queues)),
        ]
        limits = (
            f"--threads {queue.threads} --memory {queue.memory} --tries {queue.tries}"
            f" --timeout {queue.timeout} --sleep {queue.poll:g}"
        )
        if queue.modules:
            limits += f" --modules {','.join(queue.modules)}"
        process = "%(program_name)s_%(process_num)02d"
        return self._program(
            program,
            command=f"{_escape(shlex.join(words))} --name {process} {limits}",
            process_name=process,
            numprocs=processes,
            priority=queue.priority,
            autostart=not stopped,
            stopwaitsecs=max(self.settings.stop_grace_seconds, queue.timeout + 10) + 15,
        )

    def slot(self, table: Table, name: str, on: bool, stopped: bool = False) -> str | None:
        """A group of one worker or of none; None when the table no longer has its queue."""
        queue = table.queue_of_slot(name)
        return self.worker(queue, name, int(on), stopped=stopped) if queue else None

    def service(self, service: Service, stopped: bool = False) -> str:
        """A group of the one process of a service."""
        return self._program(
            service.name,
            command=_escape(shlex.join(self._filled(service, word) for word in service.words)),
            process_name="%(program_name)s",
            numprocs=1,
            priority=service.priority,
            autostart=service.autostart and not stopped,
            stopwaitsecs=service.stop_wait,
        )

    def _program(
        self,
        name: str,
        *,
        command: str,
        process_name: str,
        numprocs: int,
        priority: int,
        autostart: bool,
        stopwaitsecs: int,
    ) -> str:
        environment = {"MAILCREW_HOME": str(self.settings.home)}
        if priority < FOUNDATION:
            environment[STOP_LAST] = "1"
        return self._fill(
            "program.conf",
            name=name,
            command=command,
            process_name=process_name,
            log=process_name,
            numprocs=str(numprocs),
            priority=str(priority),
            autostart="true" if autostart else "false",
            stopwaitsecs=str(stopwaitsecs),
            root=_escape(str(self.machine.root)),
            # supervisord 4.3 expands the names of log files twice.
            logs=_escape(_escape(str(self.settings.logs))),
            environment=",".join(f'{key}="{_escape(value)}"' for key, value in environment.items()),
        )

    def _supervisord(self) -> str:
        return self._fill(
            SUPERVISORD,
            socket=_escape(str(socket_path(self.settings))),
            root=_escape(str(self.machine.root)),
            logs=_escape(str(self.settings.logs)),
            run=_escape(str(self.settings.run)),
            # Said aloud, supervisord does not warn about it at every start.
            user="user=root\n" if self.machine.is_root else "",
        )

    def _redis(self) -> str:
        return self._fill(
            REDIS,
            socket=_quoted(self.settings.sockets / "redis.sock"),
            dir=_quoted(self.settings.home / "redis"),
        )

    def _filled(self, service: Service, word: str) -> str:
        values = {
            "python": self.machine.python,
            "root": self.machine.root,
            "home": self.settings.home,
            "redis_server": self.machine.redis_server,
        }

        def value(match: re.Match[str]) -> str:
            found = values[match[1]]
            if found is None:
                raise UsageError(f'service {service.name}: {match[0]} needs when = "{EMBEDDED_REDIS}"')
            return str(found)

        return re.sub(r"{(\w+)}", value, word)

    def _fill(self, template: str, **values: str) -> str:
        try:
            return Template(self.templates[template]).substitute(values)
        except (KeyError, ValueError) as error:
            raise UsageError(f"supervisor/{template}.template: {error} is not a known placeholder") from error

    def _refuse_unsafe_paths(self) -> None:
        paths = (self.settings.home, self.machine.root, self.machine.python, self.settings.sockets)
        for path in paths:
            bad = UNSAFE_IN_PATHS.search(str(path))
            if bad:
                raise Refused(f"supervisord cannot work with {bad[0]!r} in a path: {str(path)!r}")


def socket_path(settings: Settings) -> Path:
    """Where supervisord listens."""
    return settings.sockets / SOCKET_NAME


def _escape(value: str) -> str:
    """supervisord expands %(…)s in every value, so a percent sign of ours is written twice."""
    return value.replace("%", "%%")


def _quoted(path: Path) -> str:
    return f'"{path}"'

"""gunicorn around the application, configured in code: one process serves, a small one watches it."""

from __future__ import annotations

import socket
from typing import Any

from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]
from gunicorn.glogging import Logger  # type: ignore[import-untyped]

from app.config import Settings
from app.web.application import create_app
from app.web.resources import EXTENSION

THREADS = 8
#: Requests under way may finish for so long, in seconds; below `stop_wait` in queues.toml.
GRACE_SECONDS = 20

OPTIONS: dict[str, Any] = {
    "workers": 1,
    "threads": THREADS,
    "worker_class": "gthread",
    "graceful_timeout": GRACE_SECONDS,
    "keepalive": 5,
    # Loaded before the fork, so that both processes share its memory; it opens no connection.
    "preload_app": True,
    # A cursor through the logs of a hundred processes takes 3 kB.
    "limit_request_line": 8190,
    # It would listen in the user's directory, where a second home would meet the first.
    "control_socket_disable": True,
}


class _EventLog(Logger):  # type: ignore[misc]
    """gunicorn's own messages go the way of our events; its access log is ours."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True
        self.error_log.setLevel("WARNING")


class _Server(BaseApplication):  # type: ignore[misc]
    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        self._settings = settings
        self._bind = f"fd://{listener.detach()}"
        super().__init__()

    def load_config(self) -> None:
        more = {"bind": self._bind, "logger_class": _EventLog, "post_worker_init": _watch}
        for name, value in {**OPTIONS, **more}.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        return create_app(self._settings)


def _watch(worker: Any) -> None:
    """In the process that serves: a thread that was begun before the fork would not be there."""
    worker.wsgi.extensions[EXTENSION].watcher.start()


def serve(settings: Settings, listener: socket.socket) -> None:
    """Serve on this socket until SIGTERM; does not return."""
    _Server(settings, listener).run()

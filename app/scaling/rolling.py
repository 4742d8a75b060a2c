"""Replace running processes one after another: a deploy with nothing stopped.

A worker that gets SIGTERM finishes its task and exits; supervisord starts a fresh one, with the
present code. Only when that one runs does the next get its signal.
"""

from __future__ import annotations

import time

from app.config import Settings
from app.errors import Refused
from app.scaling.groups import MARGIN, STEP, Say, connected, groups_named
from app.scaling.supervisord import Configured, Process, Supervisord
from app.scaling.table import FOUNDATION


def restart(settings: Settings, name: str | None, say: Say) -> int:
    """Restart the processes of a name, or of everything above the foundations; how many there were.

    Raises Refused when one does not come back.
    """
    with connected(settings) as client:
        configured = {(c.group, c.name): c for c in client.configured() if c.in_use}
        if name is None:
            groups = {c.group for c in configured.values() if c.priority >= FOUNDATION}
        else:
            groups = set(groups_named(settings, client, name))
        running = [p for p in client.processes() if p.group in groups and p.state == "RUNNING"]
        running.sort(key=lambda p: (configured[p.group, p.name].priority, p.group, p.name))
        for number, process in enumerate(running, 1):
            seconds = _replace(client, process, configured[process.group, process.name])
            say(f"{number}/{len(running)} {process.name} restarted in {seconds:.1f} s")
        return len(running)


def _replace(client: Supervisord, process: Process, configured: Configured) -> float:
    started = time.monotonic()
    client.signal(process, "TERM")
    while time.monotonic() - started < configured.stop_wait + MARGIN:
        now = next((p for p in client.processes() if (p.group, p.name) == (process.group, process.name)), None)
        if now and now.state == "RUNNING" and now.pid != process.pid:
            return time.monotonic() - started
        time.sleep(STEP)
    raise Refused(
        f"{process.name} (pid {process.pid}) did not come back within {configured.stop_wait + MARGIN:.0f} s; the rest "
        "was left as it is; see bin/supervisor-manager status and logs"
    )

"""What the tests of alarms share."""

from __future__ import annotations

from app.scaling.alerts import Alert, Severity

NOW = 1_790_000_000_000
MINUTE = 60_000
HERE, THERE = "mail-1 /srv/home", "mail-2 /srv/home"

FULL = Alert("disk:logs", "disk", "9 MB left", "make room", "disk", Severity.CRITICAL, {"path": "/logs", "n": 9})
DEAD = Alert("dead:mail", "mail", "3 tasks failed", "look", "dead", values={"queue": "mail", "n": 3}, source="queues",
             everywhere=True)  # fmt: skip
DOWN = Alert("process:send_00", "send_00", "is FATAL", "look", "process_down", values={"process": "send_00"},
             source="processes")  # fmt: skip

"""Users and their schedules as peewee models. Claims and runs speak SQL through `Db`."""

from __future__ import annotations

from enum import StrEnum

from peewee import AutoField, BigIntegerField, CharField, IntegerField, SmallIntegerField

from app.models.tables import Table


class RunStatus(StrEnum):
    """How a run ended: its targets well, some not, not carried out, its worker dead. Drawn in docs/states.md."""

    OK = "ok"
    FAILED = "failed"
    ERROR = "error"
    INTERRUPTED = "interrupted"


class ScheduleState(StrEnum):
    """What a schedule is in; not stored, it follows from `enabled`, `locked_by`, `period` and `started_period`."""

    OFF = "off"
    IDLE = "idle"
    QUEUED = "queued"
    RUNNING = "running"


class User(Table):
    """Somebody whose targets are checked. `email_key` is the folded address."""

    id = AutoField()
    email = CharField(max_length=320)
    email_key = CharField(max_length=320, unique=True)
    name = CharField(max_length=200, default="")
    created_at = BigIntegerField()

    class Meta:
        table_name = "users"


class Schedule(Table):
    """When a user's checks are to run, and how the last run ended. Instants are ms since 1970 UTC.

    The database adds `prior_at`, which follows from `next_run_at` and `interval_minutes`.
    """

    user_id = BigIntegerField(primary_key=True)
    enabled = SmallIntegerField(default=1)
    interval_minutes = IntegerField()
    next_run_at = BigIntegerField()
    rhythm_at = BigIntegerField(null=True)
    period = BigIntegerField(null=True)
    started_period = BigIntegerField(null=True)
    last_run_at = BigIntegerField(null=True)
    last_status = CharField(max_length=12, null=True)
    last_error = CharField(max_length=500, null=True)
    last_duration_ms = BigIntegerField(null=True)
    locked_until = BigIntegerField(null=True)
    locked_by = CharField(max_length=32, null=True)
    runs = IntegerField(default=0)
    skipped = IntegerField(default=0)
    overruns = IntegerField(default=0)
    interruptions = IntegerField(default=0)

    class Meta:
        table_name = "user_monitor_schedules"

    @property
    def state(self) -> ScheduleState:
        if self.locked_by is None:
            return ScheduleState.IDLE if self.enabled else ScheduleState.OFF
        return ScheduleState.RUNNING if self.started_period == self.period else ScheduleState.QUEUED


class ScheduleRun(Table):
    """A run that has ended. `started_at - period` is how late it began."""

    id = AutoField()
    user_id = BigIntegerField()
    period = BigIntegerField()
    started_at = BigIntegerField()
    duration_ms = BigIntegerField()
    status = CharField(max_length=12)
    error = CharField(max_length=500, null=True)
    checks = IntegerField(default=0)

    class Meta:
        table_name = "schedule_runs"


SCHEDULE_TABLES = (User, Schedule, ScheduleRun)

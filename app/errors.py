"""Every error that Mailcrew raises on purpose.

MailcrewError                 the root: its text is fit for a person, without a traceback
├── UsageError                the caller asked for something malformed (exit code 2)
│   ├── SettingError          a setting has a value that is not allowed
│   └── BadField              one field of what a person wrote is not allowed
├── NotFound                  the named thing does not exist (exit code 1)
├── Refused                   the thing asked for is not possible in the present state (exit code 1)
│   └── AddressRefused        a connection would go to an address that is not public
├── TemplateProblem           a subject or body that cannot be compiled or rendered
└── Unavailable               a service we need does not answer (exit code 1)
    └── LimitsUnavailable     Redis does not answer, and limits are counted there
"""

from __future__ import annotations


class MailcrewError(Exception):
    """Raised when something a person can understand and mend has gone wrong."""

    exit_code = 1


class UsageError(MailcrewError):
    """Raised when an argument is malformed; the text names it, its value and what is allowed."""

    exit_code = 2


class SettingError(UsageError):
    """Raised at start when a setting has a value that is not allowed."""

    def __init__(self, name: str, value: str, allowed: str) -> None:
        super().__init__(f"{name}={value!r} is not allowed: {allowed}")
        self.name = name


class BadField(UsageError):
    """Raised when one field of what a person wrote is not allowed; `field` is its name there."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(problem)
        self.field = field


class NotFound(MailcrewError):
    """Raised when a campaign, list, server or user that was named does not exist."""


class Refused(MailcrewError):
    """Raised when the thing asked for is not possible in the present state."""


class AddressRefused(Refused):
    """Raised when a connection would go to an address that is not public and that no setting allows."""


class TemplateProblem(MailcrewError):
    """Raised when a subject or body cannot be compiled or rendered.

    `part` is "subject", "html" or "text"; `line` counts from 1, None when unknown.
    """

    def __init__(self, part: str, line: int | None, problem: str) -> None:
        where = f"{part}, line {line}" if line else part
        super().__init__(f"{where}: {problem}")
        self.part = part
        self.line = line


class Unavailable(MailcrewError):
    """Raised when a service we need (database, Redis, supervisord) does not answer."""


class LimitsUnavailable(Unavailable):
    """Raised when tokens of a server with limits cannot be reserved, because Redis does not answer."""

    def __init__(self) -> None:
        super().__init__("Redis does not answer, and limits are counted there")

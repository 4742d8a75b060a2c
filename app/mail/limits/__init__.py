"""Limits of servers and of recipient domains, counted in Redis for all workers and hosts together.

No method waits: a caller that may not send now is told when it may.
"""

from app.mail.limits.connections import Connections, connection_limit
from app.mail.limits.domains import DomainRules, load_rules
from app.mail.limits.history import History
from app.mail.limits.kinds import UNLIMITED, Block, DomainRule, Limits, Refusal, Request, Usage
from app.mail.limits.limiter import Limiter

__all__ = [
    "UNLIMITED",
    "Block",
    "Connections",
    "DomainRule",
    "DomainRules",
    "History",
    "Limiter",
    "Limits",
    "Refusal",
    "Request",
    "Usage",
    "connection_limit",
    "load_rules",
]

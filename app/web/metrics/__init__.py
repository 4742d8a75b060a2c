"""GET /metrics for Prometheus: made at the scrape from the database and Redis, so from one place for all workers.

Counters come from where they are written down (`deliveries`, `counters`, a hash in Redis), never from this process:
they do not fall when it restarts. What cannot be asked just now has no samples, and `mailcrew_database_up` or
`mailcrew_redis_up` says so. docs/operations.md lists every metric; a test holds the list against the answer.
"""

from __future__ import annotations

from app.web.metrics.route import routes

__all__ = ["routes"]

"""The names of the limiter's keys in Redis: all of a server share a hash tag, so one script may touch them together."""

from __future__ import annotations


def of_server(server_id: int) -> str:
    """Hash: the counters of a server's tokens."""
    return f"mailcrew:limits:{{{server_id}}}"


def of_domain(server_id: int, domain: str) -> str:
    """Hash: the counters of a domain's tokens at a server."""
    return f"{of_server(server_id)}:at:{domain}"


def waiting(server_id: int, domain: str) -> str:
    """Sorted set: who was given an appointment for a domain's tokens."""
    return f"{of_domain(server_id, domain)}:waiting"


def counting(server_id: int) -> str:
    """The lock of whoever counts a server's tokens from the database."""
    return f"{of_server(server_id)}:counting"


def noted(server_id: int) -> str:
    """The leases that were open when Redis was found to know nothing, as JSON."""
    return f"{of_server(server_id)}:noted"


def connections(server_id: int) -> str:
    """Sorted set: open connections by the ms since 1970 in which their slots expire."""
    return f"{of_server(server_id)}:connections"

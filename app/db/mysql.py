"""MySQL as peewee and PyMySQL open it, without what a connection costs most.

PyMySQL speaks TLS with every server that offers it, and as nobody has named an authority it verifies none. Yet it reads
all certificates of the machine for each connection, over a socket file too: 29 ms of processor time of 30.
"""

from __future__ import annotations

import ssl
from contextlib import nullcontext
from functools import cache
from typing import Any

import peewee
from pymysql.connections import Connection


class MySQL(peewee.MySQLDatabase):
    """As peewee's, but threads open connections side by side: with a server that is frozen each try takes seconds."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # It guards nothing of one connection, whose state is its thread's own; held, it makes all wait for the slowest.
        self._lock: Any = nullcontext()

    def _connect(self) -> Any:
        return _Connection(database=self.database, autocommit=True, **self.connect_params)


class _Connection(Connection):
    def _create_ssl_ctx(self, sslp: Any) -> ssl.SSLContext:
        return super()._create_ssl_ctx(sslp) if sslp else _unverified()  # type: ignore[misc]


@cache
def _unverified() -> ssl.SSLContext:
    """What PyMySQL makes when no authority is named. The same for all connections, which do not change it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context

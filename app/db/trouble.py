"""What a database error means: trouble that passes by itself, or one that stays until code or schema change.

PEP 249 keeps OperationalError for what is not the programmer's doing (locks, full disks, lost connections) and
InterfaceError for a connection that is gone. But sqlite3 also raises OperationalError for a statement that is
wrong, PyMySQL for a column that is missing; and a full disk comes from PyMySQL as InternalError when the
server's file layer reports it. So the driver's own code decides.
"""

from __future__ import annotations

import sqlite3

import peewee

#: SQLite's primary result codes of a statement that is wrong for this schema, or of a file that is no database:
#: SQLITE_ERROR, SQLITE_CORRUPT, SQLITE_TOOBIG, SQLITE_MISMATCH, SQLITE_MISUSE, SQLITE_RANGE, SQLITE_NOTADB.
_SQLITE_STAYS = frozenset({1, 11, 18, 20, 21, 25, 26})

#: MySQL's codes that come as OperationalError and stay: ambiguous, unknown or forbidden column or table,
#: a wrong number of values, a field without a value, a function or routine that is not there.
_MYSQL_STAYS = frozenset({1051, 1052, 1054, 1058, 1109, 1136, 1142, 1143, 1176, 1305, 1364, 1370, 1630})


def passes_by_itself(error: BaseException) -> bool:
    """Whether the same statement may succeed later with nobody changing code or schema.

    So it is when the database is locked, busy, full, read-only, restarting or away, or chose us as a deadlock's
    victim: somebody waits, makes room or starts it, and the work goes on where it was. What is not known counts as
    passing: to wait too long for it is shown and can be mended, to give up can not.
    """
    first = first_of(error)
    if not isinstance(first, peewee.OperationalError | peewee.InterfaceError | peewee.InternalError):
        return False
    cause = getattr(first, "orig", None)
    if isinstance(cause, sqlite3.Error):
        code = getattr(cause, "sqlite_errorcode", None)
        return code is None or (code & 0xFF) not in _SQLITE_STAYS
    return (first.args[0] if first.args else None) not in _MYSQL_STAYS


def first_of(error: BaseException) -> BaseException:
    """The database error that began it: a rollback over a lost connection fails too, and says less."""
    found, above = error, error.__context__
    while above is not None:
        if isinstance(above, peewee.PeeweeException):
            found = above
        above = above.__context__
    return found

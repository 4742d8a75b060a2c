"""The database: one connection per thread, SQLite or MySQL/MariaDB, the same SQL for both.

Statements are written with `?` for bound values. What the two dialects say differently is a
method or attribute of `Db`, so that no other module asks which database it is on.
"""

from app.db.connection import Db, connect, connect_url
from app.db.migrate import migrate, migration_status, newer_migrations

__all__ = ["Db", "connect", "connect_url", "migrate", "migration_status", "newer_migrations"]

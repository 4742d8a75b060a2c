"""The one flag of this process that says: no new work, finish what is in hand."""

from __future__ import annotations

import threading

#: Everything in a worker that waits, waits on this.
stop_requested = threading.Event()

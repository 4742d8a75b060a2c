"""Looks at this home again and again, for all who look at the console: what needs somebody, written down.

Whoever asks gets what was seen last, without waiting for a service that does not answer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from app.config import Settings
from app.db import Db
from app.db.connection import DatabaseTrouble
from app.errors import Unavailable
from app.events import warn
from app.watch.alarms import Alarm, open_alarms, place_of, unwritten
from app.watch.answers import Asker
from app.watch.look import Look, Looker
from app.watch.noting import as_seen, note
from app.watch.picture import Picture
from app.watch.turn import take_watch

#: Between two looks, in seconds, when nobody asks.
EVERY_SECONDS = 30.0
#: Who looks at the console may see this old a look, in seconds.
FRESH_SECONDS = 10.0
#: For the very first look somebody waits so long, in seconds.
FIRST_SECONDS = 3.0


@dataclass(frozen=True)
class Seen:
    """One look. `at`: ms since 1970. `alarms`: the worst first; `mute`: sources that did not answer."""

    at: int
    alarms: tuple[Alarm, ...]
    mute: frozenset[str]
    picture: Picture

    def loud(self) -> list[Alarm]:
        """Those of which somebody is still to hear."""
        now = _now()
        return [one for one in self.alarms if not one.is_quiet(now)]


class Watcher:
    """One for each web service. `seen`: the last look, None before the first."""

    def __init__(self, settings: Settings, root: Path, db: Db) -> None:
        self._settings, self._db = settings, db
        self._looker = Looker(settings, root)
        self._place = place_of(settings)
        self._asker = Asker("the look at the home", self._step)
        self._lock = threading.Lock()
        self._turn: IO[str] | None = None
        self._first: dict[str, int] = {}
        self._look: Look | None = None
        self.seen: Seen | None = None

    def start(self) -> None:
        """Look every half a minute from now on, as long as this process lives."""
        threading.Thread(target=self._run, name="watcher", daemon=True).start()

    def fresh(self) -> Seen | None:
        """The last look; an old one is renewed meanwhile. None while the first one takes long."""
        if self._is_old():
            with self._lock:
                if not self._is_old():
                    return self.seen  # another one has looked meanwhile
                asked = self._asker.begin()
            if self.seen is None:
                try:
                    asked.answer(time.monotonic() + FIRST_SECONDS)
                except Unavailable:
                    pass  # what comes later is shown later
        return self.seen

    def _is_old(self) -> bool:
        return self.seen is None or _now() - self.seen.at > FRESH_SECONDS * 1000

    def reread(self) -> None:
        """Somebody has acknowledged something."""
        if self._look is not None:
            self.seen = self._seen(self._look, self._known(open_alarms(self._db), self._look))

    def _run(self) -> None:
        while True:
            with self._lock:
                asked = self._asker.begin()
            try:
                asked.answer(time.monotonic() + EVERY_SECONDS)
            except Unavailable:
                continue  # it still looks
            time.sleep(EVERY_SECONDS)

    def _step(self) -> None:
        """Look, write down. Nothing that goes wrong here may end it."""
        try:
            look = self._looker.look()
            self._look = look
            self.seen = self._seen(look, self._noted(look))
        except Exception as error:
            warn("alarms could not be looked for", reason=f"{type(error).__name__}: {error}")
        finally:
            self._db.close()

    def _noted(self, look: Look) -> list[Alarm]:
        if "database" in look.mute or any(one.kind == "database_migrations" for one in look.alerts):
            return self._known([], look)
        try:
            self._turn = self._turn or take_watch(self._settings)
            if self._turn is None:
                return self._known(open_alarms(self._db), look)  # a check writes it down just now
            return note(self._db, self._place, look.alerts, look.mute, self._db.now_ms())
        except DatabaseTrouble as error:
            warn("alarms could not be written down", reason=str(error))
            self._db.close()
            return self._known([], look)

    def _known(self, rows: Iterable[Alarm], look: Look) -> list[Alarm]:
        """What is written down, and what is not yet."""
        found = as_seen(rows, look.alerts, self._place)
        keys = {one.key for one in found}
        now = _now()
        self._first = {one.key: self._first.get(one.key, now) for one in look.alerts}
        return found + [unwritten(self._place, a, self._first[a.key]) for a in look.alerts if a.key not in keys]

    def _seen(self, look: Look, alarms: list[Alarm]) -> Seen:
        worst_first = sorted(alarms, key=lambda one: (one.severity != "critical", -one.opened_at, one.key))
        return Seen(_now(), tuple(worst_first), look.mute, look.picture)


def _now() -> int:
    return time.time_ns() // 1_000_000

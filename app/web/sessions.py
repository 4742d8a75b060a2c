"""The administrator's sessions: a signed cookie each, so that recognizing one asks no database.

The key of the signature is made of SECRET_KEY and of the password: who changes either ends every session.
Sessions that were ended before their time are few; all of them are looked up together, every second at most.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass, replace
from functools import cached_property

from itsdangerous import BadData, URLSafeSerializer

from app.config import Settings
from app.db import Db
from app.secrets import secret
from app.web.shared import Shared

#: A session ends when nobody has used it for so long, and when it is so old, in seconds.
IDLE_SECONDS = 12 * 3600
LONGEST_SECONDS = 7 * 24 * 3600
#: Its cookie is renewed when it is so old, in seconds.
RENEW_SECONDS = 600
#: How soon every process knows of a session that was ended in another, in seconds.
ENDED_SECONDS = 1.0
LONGEST_PASSWORD = 1024


@dataclass(frozen=True)
class Session:
    """`id`: 32 hex digits; `began` and `used`: seconds since 1970."""

    id: str
    began: int
    used: int

    @property
    def until(self) -> int:
        return min(self.used + IDLE_SECONDS, self.began + LONGEST_SECONDS)


class Sessions:
    """Those of one home. Reads the secrets at their first use."""

    def __init__(self, settings: Settings, db: Db) -> None:
        self._settings = settings
        self._db = db
        self._salt = secrets.token_bytes(16)
        self._ended: Shared[frozenset[str]] = Shared(ENDED_SECONDS)
        # Cookies do not tell ports apart, and two homes on one machine differ in nothing else.
        mark = hashlib.sha256(str(settings.home.resolve()).encode()).hexdigest()[:8]
        self.cookie = f"mailcrew_session_{mark}"
        self.form_cookie = f"mailcrew_form_{mark}"

    def right_password(self, given: str) -> bool:
        """Whether this is the administrator's password; takes as long when it is not."""
        return hmac.compare_digest(self._hash(given[:LONGEST_PASSWORD]), self._right)

    def begin(self) -> Session:
        now = int(time.time())
        return Session(secrets.token_hex(16), now, now)

    def sign(self, session: Session) -> str:
        """The value of the cookie."""
        signed = self._serializer.dumps([session.id, session.began, session.used])
        return signed if isinstance(signed, str) else signed.decode()

    def read(self, cookie: str | None) -> Session | None:
        """The session of a cookie; None when it is none of ours, over or ended."""
        if not cookie:
            return None
        try:
            id_, began, used = self._serializer.loads(cookie)
        except (BadData, ValueError, TypeError):
            return None
        session = Session(id_, began, used)
        return None if session.until <= time.time() or session.id in self._ended_ids() else session

    def renewed(self, session: Session) -> Session | None:
        """The session with a new time of its last use, when it is worth a new cookie."""
        now = int(time.time())
        return replace(session, used=now) if now - session.used >= RENEW_SECONDS else None

    def end(self, session: Session) -> None:
        """No copy of its cookie counts from now on."""
        until = (session.began + LONGEST_SECONDS) * 1000
        self._db.run("DELETE FROM ended_sessions WHERE until < ?", int(time.time() * 1000))
        self._db.run("DELETE FROM ended_sessions WHERE id = ?", session.id)
        self._db.run("INSERT INTO ended_sessions (id, until) VALUES (?, ?)", session.id, until)
        self._ended.forget()

    def sign_text(self, text: str) -> str:
        """Text for a cookie that nobody else can have written."""
        signed = self._texts.dumps(text)
        return signed if isinstance(signed, str) else signed.decode()

    def read_text(self, cookie: str) -> str:
        """What was signed; raises BadData."""
        return str(self._texts.loads(cookie))

    def form_token(self, identity: str) -> str:
        """What a form must bring along that was made for this session (or for this visitor's login)."""
        return hmac.new(self._key, f"form:{identity}".encode(), hashlib.sha256).hexdigest()

    def right_form_token(self, identity: str, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self.form_token(identity).encode())

    def _ended_ids(self) -> frozenset[str]:
        # Without a database nobody can be told apart from who has left: DatabaseTrouble goes to the caller.
        return self._ended.get(
            None, lambda: frozenset(str(row[0]) for row in self._db.rows("SELECT id FROM ended_sessions"))
        )

    @cached_property
    def _key(self) -> bytes:
        password = hashlib.sha256(secret(self._settings, "ADMIN_PASSWORD").encode()).digest()
        return hmac.new(secret(self._settings, "SECRET_KEY").encode(), password, hashlib.sha256).digest()

    @cached_property
    def _serializer(self) -> URLSafeSerializer:
        return URLSafeSerializer(self._key, salt="session", signer_kwargs={"digest_method": hashlib.sha256})

    @cached_property
    def _texts(self) -> URLSafeSerializer:
        return URLSafeSerializer(self._key, salt="text", signer_kwargs={"digest_method": hashlib.sha256})

    @cached_property
    def _right(self) -> bytes:
        return self._hash(secret(self._settings, "ADMIN_PASSWORD")[:LONGEST_PASSWORD])

    def _hash(self, password: str) -> bytes:
        return hashlib.scrypt(password.encode(errors="replace"), salt=self._salt, n=2**14, r=8, p=1)

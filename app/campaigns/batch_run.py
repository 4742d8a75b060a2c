"""Send the mails of one leased batch: per mail journal, check, send.

One flight carries the content of mail k and the envelope of k+1, so k+1 has passed its checks and
is composed before k goes out; the mail after it is composed while the server works on k.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from enum import Enum

from app.campaigns.journal import MailState, Slot
from app.campaigns.mails import Mail
from app.campaigns.outcomes import Outcome
from app.errors import MailcrewError
from app.mail.ration import No, Ration, Tokens, stale
from app.mail.transport import Connection, Envelope, Kind
from app.mail.transport import Outcome as Answer
from app.models.states import RecipientState

_JOURNAL_OF = {
    RecipientState.SENT: MailState.SENT,
    RecipientState.FAILED: MailState.FAILED,
    RecipientState.SKIPPED: MailState.SKIPPED,
    RecipientState.UNKNOWN: MailState.IN_DOUBT,
    RecipientState.PENDING: MailState.DEFERRED,
}
#: So long before the end of a batch, in seconds, the next one is leased. Further ahead it would be
#: kept from workers that have nothing to do.
NEAR_END_SECONDS = 0.1
#: A content of more bytes may not fit into the kernel's buffers, so that writing it waits for the server.
LARGE = 65_536
BROKEN_OFF = "sending was broken off by an internal error; not sent again"
_no_address = re.compile(r"[\x00-\x20<>\x7f]").search


class Wait(Enum):
    """What a run waits for between two steps."""

    REPLIES = "the replies to a flight"
    ALONE = "a thread that may wait"


Steps = Generator[Wait, None, Answer | None]


@dataclass(slots=True)
class _Prepared:
    """A composed mail; `tokens` is what it holds of the limits, None: it has not been asked whether it may go."""

    index: int
    mail: Mail
    envelope: Envelope
    content: bytes
    tokens: Tokens | None = None


class BatchRun:
    """The run of one lease over one or more connections; `outcomes` grows as mails are answered.

    `may_go()` is asked before every envelope and again before its content; `near_end()` is called once,
    shortly before the last mail; `clock()` gives ms.
    """

    def __init__(
        self,
        mails: Sequence[Mail],
        slot: Slot,
        *,
        sender: str,
        compose: Callable[[Mail], bytes],
        may_go: Callable[[], bool],
        near_end: Callable[[], object],
        clock: Callable[[], int],
        max_attempts: int,
    ) -> None:
        self._slot = slot
        self._sender = sender
        self._compose = compose
        self._may_go = may_go
        self._near_end = near_end
        self._clock = clock
        self._max_attempts = max_attempts
        self._todo = deque(enumerate(mails))
        self._ahead: deque[_Prepared] = deque()
        #: Of domains that had no token at the server of this run; they are for another one.
        self._aside: list[tuple[int, Mail]] = []
        self._size = len(self._todo)
        self._started = time.monotonic()
        self._looks = {self._size * part // 8 for part in (6, 4, 2, 1)} | {1, 0}
        self._in_flight: tuple[_Prepared, int] | None = None
        self.outcomes: list[Outcome] = []

    @property
    def left(self) -> int:
        """Mails that nothing has been decided about."""
        return len(self._todo) + len(self._ahead) + len(self._aside)

    def left_emails(self) -> list[str]:
        """Their addresses."""
        ahead = [one.mail.email for one in self._ahead]
        return ahead + [mail.email for _, mail in (*self._todo, *self._aside)]

    def concluded(self) -> list[Outcome]:
        """All outcomes, a mail whose sending was broken off by an error of ours being in doubt."""
        if self._in_flight:
            current, server_id = self._in_flight
            self._in_flight = None
            self._decide(current.index, current.mail, RecipientState.UNKNOWN, BROKEN_OFF, server_id)
        return self.outcomes

    def steps(self, connection: Connection, server_id: int, ration: Ration | None = None) -> Steps:
        """Send what is left over one connection, in steps; the trouble that ended it, or None.

        `ration`: what may go over this server, None for everything. Yields REPLIES when a flight is out, and
        ALONE when the next step may wait for the server or for Redis; who drives several runs on one thread
        leaves such a step to another.
        """
        self._todo.extendleft(reversed(self._aside))
        self._aside.clear()
        self._slot.over(server_id)
        current = self._take(ration)
        if current is None:
            return None
        opened = connection.begin(current.envelope)
        while True:
            while not opened.ready:
                trouble = self._answered(current, opened.outcome, server_id)
                if trouble:
                    return trouble
                yield Wait.ALONE
                current = self._take(ration)
                if current is None:
                    return None
                opened = connection.begin(current.envelope)
            good = True
            if ration and (stale(current.tokens) or not self._has_tokens(ration)):
                yield Wait.ALONE
                good = self._renewed(current, ration)
            following = self._take(ration) if good else None
            if len(current.content) > LARGE:
                yield Wait.ALONE
            # Again, right before the content: what came in between may have taken its time.
            if ration and good and stale(current.tokens):
                yield Wait.ALONE
                good = self._renewed(current, ration)
            if not good or not self._may_go():
                # The server waits for content that must not come: only hanging up is safe.
                connection.close()
                self._untake(following, ration)
                self._untake(current, None)
                return None
            self._in_flight = (current, server_id)
            self._slot.mark(current.index, MailState.SENDING)
            connection.send(current.content, following.envelope if following else None)
            self._compose_ahead(ration)
            yield Wait.REPLIES
            answer, next_opened = connection.finish()
            self._in_flight = None
            if ration:
                ration.answered(current.tokens)
            trouble = self._answered(current, answer, server_id)
            if trouble:
                self._untake(following, None)
                return trouble
            if following is None or next_opened is None:
                return None
            current, opened = following, next_opened

    def _take(self, ration: Ration | None) -> _Prepared | None:
        """The next mail that may go, composed; None when there is none or the checks say stop."""
        if not self._may_go():
            if ration and self._ahead:
                self._untake(self._ahead.popleft(), ration)
            return None
        if not self._ahead:
            self._compose_ahead(ration)
        while ration and self._ahead and (first := self._ahead[0]).tokens is None:
            taken = ration.take(first.mail.email, self.left - len(self._aside))
            if taken is No.NONE:
                return None
            if taken is not No.NOT_THIS:
                first.tokens = taken
                break
            self._ahead.popleft()
            self._aside.append((first.index, first.mail))
            self._compose_ahead(ration)
        found = self._ahead.popleft() if self._ahead else None
        if self.left in self._looks:
            self._look_ahead()
        return found

    def _has_tokens(self, ration: Ration) -> bool:
        """Give the next mail its tokens, if they are in hand; False: taking it may ask Redis."""
        if not self._ahead:
            self._compose_ahead(ration)
        if self._ahead and self._may_go():
            tokens = ration.in_hand(self._ahead[0].mail.email)
            if tokens is None:
                return False
            self._ahead[0].tokens = tokens
        return True

    def _renewed(self, mail: _Prepared, ration: Ration) -> bool:
        """Whether a mail whose envelope went out has good tokens, or has got such instead."""
        if mail.tokens and stale(mail.tokens):
            mail.tokens = ration.renew(mail.tokens, self.left + 1)
        return mail.tokens is not None

    def _untake(self, mail: _Prepared | None, ration: Ration | None) -> None:
        """Take a mail back whose content did not go; its tokens too, unless its envelope went out (`ration` None)."""
        if mail is None:
            return
        if ration and mail.tokens:
            ration.put_back(mail.tokens)
        mail.tokens = None
        self._ahead.appendleft(mail)

    def _look_ahead(self) -> None:
        """Tell, once, that the end is near at the present speed."""
        left = self.left
        seconds = (time.monotonic() - self._started) / max(1, self._size - left) * left
        if seconds < NEAR_END_SECONDS or left == 0:
            self._looks = set()
            self._near_end()

    def _compose_ahead(self, ration: Ration | None = None) -> None:
        while self._todo and not self._ahead:
            index, mail = self._todo.popleft()
            if ration and ration.refuses(mail.email):
                self._aside.append((index, mail))
                continue
            prepared = self._prepare(index, mail)
            if prepared:
                self._ahead.append(prepared)

    def _prepare(self, index: int, mail: Mail) -> _Prepared | None:
        if mail.skip_reason:
            self._decide(index, mail, RecipientState.SKIPPED, mail.skip_reason)
            return None
        if _no_address(mail.email) or "@" not in mail.email:
            self._decide(index, mail, RecipientState.FAILED, f"not an address: {mail.email!r}")
            return None
        # A mail that kills the process leaves this byte behind.
        self._slot.mark(index, MailState.COMPOSING)
        try:
            content = self._compose(mail)
        except MailcrewError as error:
            self._decide(index, mail, RecipientState.FAILED, str(error))
            return None
        self._slot.mark(index, MailState.UNTRIED)
        envelope = Envelope(self._sender, mail.email, not mail.email.isascii(), len(content))
        return _Prepared(index, mail, envelope, content)

    def _answered(self, current: _Prepared, answer: Answer | None, server_id: int) -> Answer | None:
        """Record an answer; gives it back when it is trouble that ends this connection."""
        assert answer is not None
        mail, text = current.mail, str(answer.reply) if answer.reply else answer.reason
        if answer.kind is Kind.PROVIDER:
            # Not the recipient's fault: untried, and behind the others should this very mail cause it.
            self._slot.mark(current.index, MailState.UNTRIED)
            self._todo.append((current.index, mail))
            return answer
        if answer.kind is Kind.ACCEPTED:
            self._decide(current.index, mail, RecipientState.SENT, text, server_id)
        elif answer.kind is Kind.IN_DOUBT:
            self._decide(current.index, mail, RecipientState.UNKNOWN, answer.reason, server_id)
            return answer
        elif answer.kind is Kind.RECIPIENT_REFUSED:
            self._decide(current.index, mail, RecipientState.FAILED, answer.reason or text, server_id)
        elif mail.attempts + 1 >= self._max_attempts:
            reason = f"gave up after {mail.attempts + 1} attempts: {text}"
            self._decide(current.index, mail, RecipientState.FAILED, reason, server_id)
        else:
            self._decide(current.index, mail, RecipientState.PENDING, text, server_id)
        return None

    def _decide(self, index: int, mail: Mail, state: RecipientState, reason: str, server_id: int | None = None) -> None:
        now, attempt = self._clock(), server_id is not None
        self._slot.record(index, _JOURNAL_OF[state], server_id or 0, now, attempt, reason)
        recovered = mail.bounces > 0 and state is RecipientState.SENT
        self.outcomes.append(Outcome(mail.subscriber_id, state, server_id, reason, now, attempt, recovered=recovered))

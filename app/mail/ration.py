"""What one run over one server may send: a token of the server for each mail, and one of the recipient's domain.

A token is taken before a mail's envelope goes out, and looked at again right before its content does: one that is too
old by then is exchanged, and when there is none any more, the content does not go. A mail that was answered later than
its token was good counts from its answer, for that is when its server may have counted it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from enum import Enum

from app.clock import since_boot
from app.mail.gate import Gate
from app.mail.limits import Block, DomainRule, DomainRules, Limits, Refusal
from app.mail.servers import Usable


class No(Enum):
    NOT_THIS = "its domain has no token here now; others may go"
    NONE = "nothing more may go over this server now"


#: What one mail holds: a token of each of these blocks.
Tokens = tuple[Block, ...]


class Ration:
    """For one thread at a time. `seconds_a_mail`: how fast this thread sends there, as far as is known.

    `emails`: all that it will be asked about; of any other nobody would know that its domain has a limit.
    `trial`: one mail, then no more. `refused` holds the domains that had no token, with what was said.
    """

    def __init__(
        self,
        gate: Gate,
        server: Usable,
        block: Block | None,
        rules: DomainRules,
        emails: Iterable[str],
        *,
        seconds_a_mail: float,
        trial: bool,
    ) -> None:
        self._gate = gate
        self._server = server
        self._limited = block is not None
        self._block = block
        #: Of the recipients for whose domain there is one. Found once: each mail is looked at several times.
        self._rule_of = {email: rule for email in emails if (rule := rules.for_address(email))} if rules else {}
        self._seconds_a_mail = seconds_a_mail
        self._quota = 1 if trial else -1
        # Nothing but the server's own tokens to look at, as it is nearly always.
        self._plain = block is not None and not self._rule_of and not trial
        self._left = Counter(rule.domain for rule in self._rule_of.values())
        self._domains: dict[str, Block] = {}
        #: Used up or exchanged, and then a late answer came.
        self._late: list[Block] = []
        self.refused: dict[str, tuple[DomainRule, Refusal]] = {}

    def in_hand(self, email: str) -> Tokens | None:
        """Take what one mail needs, if that is in hand; None when `take` has to find out more, from Redis perhaps.

        So that a thread that looks after others does not wait for Redis.
        """
        block, now = self._block, since_boot()
        if self._plain:
            if block is None or now >= block.use_by or not block.take():
                return None
            return (block,)
        if self._quota == 0 or (self._limited and (block is None or now >= block.use_by or block.left < 1)):
            return None
        rule = self._rule_of.get(email)
        if rule is None:
            return self._taken(None, (block,) if block and block.take() else ())
        of_domain = self._domains.get(rule.domain)
        if of_domain is None or now >= of_domain.use_by or not of_domain.take():
            return None
        return self._taken(rule, (of_domain, block) if block and block.take() else (of_domain,))

    def refuses(self, email: str) -> bool:
        """Whether it is known that this mail's domain has no token here now."""
        rule = self._rule_of.get(email) if self.refused else None
        return rule is not None and rule.domain in self.refused

    def take(self, email: str, left: int) -> Tokens | No:
        """Take what one mail needs, asking Redis for it; `left`: mails that may follow, this one included."""
        if self._quota == 0:
            return No.NONE
        rule = self._rule_of.get(email)
        used: Tokens = ()
        # The domain first: a mail that has to wait for that takes no token from others.
        if rule is not None:
            of_domain = self._of_domain(rule)
            if of_domain is None:
                return No.NOT_THIS
            used = (of_domain,)
        if self._limited:
            self._block = self._ready(self._block, left) if self._block else None
            if self._block is None:
                self.put_back(used)
                return No.NONE
            used += (self._block,)
        return self._taken(rule, used)

    def renew(self, tokens: Tokens, left: int) -> Tokens | None:
        """Exchange those of a mail's tokens that are too old; None when there are none any more: it must not go.

        `left`: mails that may follow, this one included.
        """
        renewed: list[Block] = []
        for number, block in enumerate(tokens):
            if not block.expired:
                renewed.append(block)
                continue
            block.put_back()
            rule, current = block.request.rule, self._is_current(block)
            wanted = left if rule is None else self._left[rule.domain] + 1
            fresh = self._fresh(block, wanted if current else block.left)
            if current:
                self._replace(rule, fresh)
            if fresh is None or not fresh.take():
                self.put_back((*renewed, *tokens[number + 1 :]))
                return None
            if not current:
                self._gate.limiter.give_back(fresh)
            renewed.append(fresh)
        return tuple(renewed)

    def put_back(self, tokens: Tokens) -> None:
        """Put back the tokens of a mail whose envelope has not gone out."""
        for block in tokens:
            block.put_back()
            if not self._is_current(block):
                self._gate.limiter.give_back(block)

    def answered(self, tokens: Tokens | None) -> None:
        """The server has answered, or not within its time, to the content of a mail that holds these tokens."""
        for block in tokens or ():
            if block.answered() and not self._is_current(block):
                self._late.append(block)

    def close(self) -> int:
        """Give back what was not used; how many of the server's tokens that were."""
        unused = self._block.left if self._block else 0
        for block in (self._block, *self._domains.values(), *self._late):
            if block is not None:
                self._gate.limiter.give_back(block)
        self._block = None
        self._domains.clear()
        self._late.clear()
        return unused

    def _taken(self, rule: DomainRule | None, used: Tokens) -> Tokens:
        if rule is not None:
            self._left[rule.domain] -= 1
        self._quota -= self._quota > 0
        return used

    def _of_domain(self, rule: DomainRule) -> Block | None:
        """The domain's block, a token less; None when it has none now."""
        if rule.domain in self.refused:
            return None
        block = self._domains.get(rule.domain)
        wanted = max(1, self._left[rule.domain])
        if block is None:
            found = self._gate.reserve(self._server, self._bounded(wanted, rule.limits), rule)
            if isinstance(found, Refusal):
                self.refused[rule.domain] = (rule, found)
                return None
            block = found
            block = block if block.take() else None
        else:
            block = self._ready(block, wanted)
        self._replace(rule, block)
        return block

    def _ready(self, block: Block, wanted: int) -> Block | None:
        """The block, or the next one in its place, a token less; None when there is none."""
        found: Block | None = block
        if block.expired or block.left < 1:
            found = self._fresh(block, wanted)
        return found if found and found.take() else None

    def _fresh(self, block: Block, wanted: int) -> Block | None:
        """A new block for what is left of an old one, which has expired or is used up."""
        rule = block.request.rule
        limits = self._server.limits if rule is None else rule.limits
        late = [other for other in self._late if other.request == block.request]
        self._late = [other for other in self._late if other.request != block.request]
        found = self._gate.exchange(self._server, block, self._bounded(wanted, limits), late)
        if isinstance(found, Block):
            return found
        if rule is not None:
            self.refused[rule.domain] = (rule, found)
        return None

    def _is_current(self, block: Block) -> bool:
        rule = block.request.rule
        return block is (self._block if rule is None else self._domains.get(rule.domain))

    def _replace(self, rule: DomainRule | None, block: Block | None) -> None:
        if rule is None:
            self._block = block
        elif block is None:
            self._domains.pop(rule.domain, None)
        else:
            self._domains[rule.domain] = block

    def _bounded(self, wanted: int, limits: Limits) -> int:
        return bounded(wanted, limits, self._seconds_a_mail)


def stale(tokens: Tokens | None) -> bool:
    """Whether some of a mail's tokens are too old for its content to go."""
    if not tokens:
        return False
    now = since_boot()
    for block in tokens:  # noqa: SIM110 (for each mail: `any` takes twice as long)
        if now >= block.use_by:
            return True
    return False


def bounded(wanted: int, limits: Limits, seconds_a_mail: float) -> int:
    """As many tokens as will be used before they are too old, at least one."""
    return max(1, min(wanted, int(limits.use_seconds / seconds_a_mail) + 1))

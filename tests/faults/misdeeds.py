"""What the SMTP server does wrong: each is asked at every step and answers with a Fault or None."""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.smtp_faults import Event, Fault, drop, silent

_TEXTS = {
    "421": ("421 4.3.2 closing",),
    "45": ("451 4.3.0 try again later", "452 4.2.2 mailbox full"),
    "55": ("550 5.1.1 no such user", "552 5.2.2 mailbox full"),
}


def _hit(event: Event, probability: float, *verbs: str) -> bool:
    return event.verb in verbs and random.random() < probability


def before_354(event: Event) -> Fault | None:
    return drop(reset=random.random() < 0.5) if _hit(event, 0.004, "MAIL", "RCPT", "DATA") else None


def in_body(event: Event) -> Fault | None:
    if _hit(event, 0.01, "CONTENT"):
        return Fault(after_bytes=random.randint(1, 300), reset=random.random() < 0.5)
    return None


def after_dot(event: Event) -> Fault | None:
    if _hit(event, 0.01, "DOT"):
        return drop(accept=random.random() < 0.5, reset=random.random() < 0.5)
    return None


def refuse(kind: str, probability: float) -> Callable[[Event], Fault | None]:
    """Refuse with one of the texts of this kind, at any step of a mail."""
    verbs = ("MAIL", "RCPT", "DATA", "DOT")

    def misdeed(event: Event) -> Fault | None:
        if not _hit(event, probability / len(verbs), *verbs):
            return None
        return Fault(reply=random.choice(_TEXTS[kind]), drop="after" if kind == "421" else "no")

    return misdeed


def defer_some(event: Event) -> Fault | None:
    return Fault(reply="451 4.7.1 greylisted") if _hit(event, 0.4, "RCPT") else None


def never_answer(event: Event) -> Fault | None:
    return (
        silent(accept=random.random() < 0.5) if _hit(event, 0.0006, "CONNECT", "MAIL", "RCPT", "DATA", "DOT") else None
    )


def read_slowly(event: Event) -> Fault | None:
    return Fault(slow=1.0, fast_after=10) if _hit(event, 0.002, "CONTENT") else None


def everything(event: Event) -> Fault | None:
    kinds = (before_354, in_body, after_dot, refuse("421", 0.01), refuse("45", 0.02))
    return random.choice(kinds)(event)

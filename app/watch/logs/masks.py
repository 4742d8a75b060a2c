"""Take secrets out of what is shown: those of this home, and what looks like one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote, urlsplit

from app.config import Settings, variable
from app.secrets import MAY_BE_EMPTY, secret
from app.watch.logs.wanted import Mask

HIDDEN = "•••"
#: Shorter values stand in many words.
SHORTEST = 6

_PATTERNS = (
    # scheme://user:password@host
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s/:@\"']*):[^\s/@\"']+@"), rf"\1:{HIDDEN}@"),
    (re.compile(r"\b(Bearer|Basic) +[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE), rf"\1 {HIDDEN}"),
    # What our own lines say under `password` is where it is kept.
    (re.compile(r"(\b(?:password|secret|api_?key)\"?\s*[=:]\s*\"?)(?!in )[^\s\",;&]+", re.IGNORECASE), rf"\1{HIDDEN}"),
)  # fmt: skip


def mask_of(settings: Settings, variables: Iterable[str] = ()) -> Mask:
    """What hides the secrets of a home. `variables`: those that hold servers' passwords."""
    found = {secret(settings, name) for name in MAY_BE_EMPTY}
    for url in (settings.database_url, settings.redis_url, settings.alert_smtp or ""):
        found.add(unquote(urlsplit(url).password or ""))
    hook = urlsplit(settings.alert_webhook or "")
    # Whoever knows the address of a chat's webhook may write there.
    found |= {hook.path, hook.query}
    found |= {variable(name) or "" for name in variables}
    known = sorted((one for one in found if len(one) >= SHORTEST), key=len, reverse=True)
    secrets = re.compile("|".join(map(re.escape, known))) if known else None

    def mask(text: str) -> str:
        shown = secrets.sub(HIDDEN, text) if secrets else text
        for pattern, instead in _PATTERNS:
            shown = pattern.sub(instead, shown)
        return shown

    return mask

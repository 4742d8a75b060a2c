"""GET a URL, follow its redirects, look at status and text. Each redirect is judged like the first URL."""

from __future__ import annotations

import re
import threading
import time

from app.errors import AddressRefused, Unavailable
from app.mail.exchange import Answer, Timing, Way, exchange
from app.mail.outgoing import Budget
from app.mail.url import Url, parse_url, redirected
from app.schedules.checks.expected import is_expected
from app.schedules.checks.outcome import Outcome, quoted
from app.schedules.checks.target import Wanted

#: Bytes of a body that are read and searched.
LARGEST_BODY = 1024 * 1024
REDIRECTS = frozenset({301, 302, 303, 307, 308})

#: Encodings of the web. Of Python's others one takes a minute for a megabyte (punycode), one always fails (undefined).
_CHARSET = re.compile(
    r"charset\s*=\s*[\"']?(utf-?(?:8|16)(?:le|be)?|us-ascii|iso-?8859-\d{1,2}|iso-2022-(?:jp|kr)|windows-\d{3,4}|"
    r"latin-?1|gbk|gb2312|gb18030|big5(?:-hkscs)?|shift_jis|euc-(?:jp|kr)|koi8-[ru]|tis-620)[\"']?\s*(?:;|$)",
    re.IGNORECASE | re.ASCII,
)


class Unexpected(Exception):
    """Raised when the answer is not as it should be."""


def check_http(wanted: Wanted, way: Way, stop: threading.Event) -> Outcome:
    """One check, within the target's time; raises Stopped."""
    timing, began = Timing(), time.monotonic()
    answer: Answer | None = None
    error, final = None, False
    try:
        answer = _last_answer(wanted, way, Budget(wanted.timeout_seconds, stop), timing)
        _judge(wanted, answer)
    except AddressRefused as refused:
        error, final = str(refused), True
    except (Unavailable, Unexpected) as problem:
        error = str(problem)
    except TimeoutError:
        error = f"no complete answer within {wanted.timeout_seconds} s"
    until = answer.certificate_until if answer else None
    return Outcome(
        error=error,
        latency_ms=round((time.monotonic() - began) * 1000),
        timing=timing,
        status_code=answer.status if answer else None,
        certificate_until=until * 1000 if until else None,
        final=final,
    )


def _last_answer(wanted: Wanted, way: Way, budget: Budget, timing: Timing) -> Answer:
    """The answer behind all redirects, with its body; raises Unexpected for redirects that lead nowhere."""
    assert wanted.url is not None
    url = parse_url(wanted.url)
    seen: set[Url] = set()
    while True:
        seen.add(url)
        answer = exchange(url, way, budget, wants=lambda found: _bytes_wanted(wanted, found), timing=timing)
        location = _leads_to(wanted, answer)
        if location is None:
            return answer
        try:
            following = redirected(url, location)
        except (ValueError, UnicodeError) as error:
            raise Unexpected(f"{url.origin} redirects to an address that is not followed: {error}") from None
        if following in seen:
            raise Unexpected(f"redirects in a circle, back to {following.origin}")
        if len(seen) > wanted.redirects:
            raise Unexpected(f"more than {wanted.redirects} redirects, the next one to {following.origin}")
        url = following


def _leads_to(wanted: Wanted, answer: Answer) -> str | None:
    """The Location to follow, None when this answer is the one to judge."""
    return answer.headers.get("Location") if wanted.redirects and answer.status in REDIRECTS else None


def _bytes_wanted(wanted: Wanted, answer: Answer) -> int:
    """Nothing of a body that nobody searches: it may be a film, or a stream without an end."""
    searched = wanted.keyword is not None or wanted.not_keyword is not None
    return LARGEST_BODY if searched and _leads_to(wanted, answer) is None else 0


def _judge(wanted: Wanted, answer: Answer) -> None:
    assert wanted.expect_status is not None
    if not is_expected(answer.status, wanted.expect_status):
        raise Unexpected(f"status {answer.status} {answer.reason}".rstrip() + f", expected {wanted.expect_status}")
    if wanted.keyword is None and wanted.not_keyword is None:
        return
    encoding = answer.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise Unexpected(f"its text cannot be searched: it comes as {quoted(encoding)}, which was not asked for")
    text = _text(answer)
    where = "" if answer.whole else f" in its first {LARGEST_BODY // 1024} KiB"
    if wanted.keyword is not None and wanted.keyword not in text:
        raise Unexpected(f"the text {quoted(wanted.keyword)} is missing{where}")
    if wanted.not_keyword is not None and wanted.not_keyword in text:
        raise Unexpected(f"the text {quoted(wanted.not_keyword)} is there")


def _text(answer: Answer) -> str:
    found = _CHARSET.search(answer.headers.get("Content-Type", ""))
    try:
        return answer.body.decode(found[1] if found else "utf-8", "replace")
    except LookupError:  # windows-999
        return answer.body.decode("utf-8", "replace")

"""What the tests of the console's schedules share: boxes and rows of a page, forms that are filled in rightly."""

from __future__ import annotations

import re

from tests.console import Visitor

NASTY = '"><script>alert(1)</script>{{ 7 * 7 }}'


def figures(page: str) -> dict[str, str]:
    """The boxes of a page: name and value."""
    return dict(re.findall(r'<span class="name">(.*?)</span><span class="value">(.*?)</span>', page))


def users_on(page: str) -> list[int]:
    return [int(id_) for id_ in re.findall(r'<th scope="row"><a href="/schedules/(\d+)"', page)]


def put_in(visitor: Visitor, path: str, **fields: object) -> str:
    """Where a form leads that was filled in rightly."""
    answer = visitor.post(path, **fields)
    assert answer.status_code == 303, answer.text
    return str(answer.headers["Location"])


def fresh(visitor: Visitor) -> None:
    """Have the next page read everything anew, though it was looked at within the last second."""
    visitor.client.application.extensions["mailcrew"].forget_shared()

"""The web service as shipped, and those who ask it."""

from __future__ import annotations

import http.client
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from urllib.parse import urlencode

from app.config import ROOT
from app.models.tokens import create_token
from bench import common
from bench.common import Place

PASSWORD = "benchmark"
#: Shorter than gunicorn keeps a connection that nobody uses, in seconds.
KEPT_SECONDS = 3.0


@dataclass(frozen=True)
class Site:
    """A running web service; `pid` is that of gunicorn's worker's parent."""

    host: str
    port: int
    pid: int
    token: str


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float


class Asker:
    """One connection that stays open, as a browser's or a script's; knows a session's cookie or a token."""

    def __init__(self, site: Site, token: str = "") -> None:
        self._site = site
        self._connection = http.client.HTTPConnection(site.host, site.port, timeout=60)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {"Accept": "text/html"}
        self._cookies: dict[str, str] = {}
        self._last = 0.0

    def get(self, path: str, **headers: str) -> Answer:
        return self._ask("GET", path, None, headers)

    def post(self, path: str, fields: Mapping[str, str] | None = None) -> Answer:
        body = urlencode(fields or {}).encode()
        return self._ask("POST", path, body, {"Content-Type": "application/x-www-form-urlencoded"})

    def log_in(self) -> None:
        """Through the form, as a person does."""
        form = self.get("/login").body.decode()
        found = re.search(r'name="csrf" value="(\w+)"', form)
        assert found
        assert self.post("/login", {"csrf": found[1], "password": PASSWORD}).status == 303

    def _ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        if time.monotonic() - self._last > KEPT_SECONDS:
            self._connection.close()  # it opens again by itself
        cookies = {"Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items())}
        began = time.perf_counter()
        self._connection.request(method, path, body, {**self._headers, **(cookies if self._cookies else {}), **headers})
        response = self._connection.getresponse()
        text = response.read()
        self._last = time.monotonic()
        seconds = time.perf_counter() - began
        for cookie in response.headers.get_all("Set-Cookie") or ():
            name, _, value = cookie.partition(";")[0].partition("=")
            self._cookies[name] = value
        return Answer(response.status, dict(response.headers), text, seconds)


@contextmanager
def site(place: Place) -> Iterator[Site]:
    """`bin/web` of this place, ended with the block."""
    port = common.free_port()
    environ = {**place.environ, "HTTP_BIND": f"127.0.0.1:{port}", "ADMIN_PASSWORD": PASSWORD}
    with ExitStack() as stack:
        log = stack.enter_context((place.directory / "web.log").open("ab"))
        options = {"env": environ, "cwd": ROOT, "stdout": log, "stderr": log}
        process = stack.enter_context(common.running([str(ROOT / "bin" / "web")], **options))
        common.wait_for_port(port)
        token = create_token(f"bench-{port}", "admin", place.db.now_ms())
        yield Site("127.0.0.1", port, process.pid, token)

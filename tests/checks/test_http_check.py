"""HTTP checks against real servers, well-behaved and hostile."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence

import pytest

from app.addresses import parse_networks
from app.mail.exchange import Way, exchange
from app.mail.outgoing import Budget, Endpoint, Stopped
from app.mail.url import parse_url
from app.schedules.checks.check import check
from app.schedules.checks.http_check import LARGEST_BODY, check_http
from app.schedules.checks.outcome import Outcome
from app.schedules.checks.target import Wanted
from tests.checks.site import HERE, Page, Port, Site, Visit, Watch, http
from tests.ports import free_port

NEVER = threading.Event()


def checked(wanted: Wanted, way: Way = HERE) -> Outcome:
    return check_http(wanted, way, NEVER)


def says(status: int, body: bytes = b"", **headers: str) -> Page:
    return lambda visit: visit.say(status, body, **headers)


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as made:
        yield made


def test_a_page_that_answers_is_up_and_its_steps_are_measured(site: Site) -> None:
    outcome = checked(http(site.url()))
    assert (outcome.ok, outcome.error, outcome.status_code) == (True, None, 200)
    steps = outcome.timing
    assert steps.tls == 0
    assert steps.first_byte > 0
    assert steps.resolve + steps.connect + steps.first_byte <= outcome.latency_ms + 1


def test_the_request_is_a_get_with_host_and_no_secrets(site: Site) -> None:
    checked(http(site.url("/?q=1")))
    ((path, headers),) = site.visits
    assert path == "/?q=1"
    assert headers == {
        "Host": f"127.0.0.1:{site.port}", "User-Agent": "Mailcrew", "Accept": "*/*", "Accept-Encoding": "identity",
        "Connection": "close",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("status", "expected", "ok"),
    [(200, None, True), (204, None, True), (404, None, False), (500, None, False), (503, "500-599", True),
     (401, "401", True), (200, "401", False), (418, "200,410-420", True)],
)  # fmt: skip
def test_the_status_must_be_one_of_those_expected(site: Site, status: int, expected: str | None, ok: bool) -> None:
    site.pages["/"] = says(status)
    outcome = checked(http(site.url(), expect_status=expected))
    assert outcome.ok is ok
    assert outcome.status_code == status
    if not ok:
        assert outcome.error
        assert f"status {status}" in outcome.error
        assert f"expected {expected or '200-399'}" in outcome.error


@pytest.mark.parametrize(
    ("body", "fields", "error"),
    [
        (b"all is well", {"keyword": "is well"}, None),
        (b"all is lost", {"keyword": "is well"}, "the text “is well” is missing"),
        (b"fatal error", {"not_keyword": "error"}, "the text “error” is there"),
        (b"all is well", {"not_keyword": "error", "keyword": "all"}, None),
        ("schön".encode(), {"keyword": "schön"}, None),
    ],
)
def test_the_text_must_hold_one_keyword_and_not_the_other(
    site: Site, body: bytes, fields: dict[str, str], error: str | None
) -> None:
    site.pages["/"] = says(200, body)
    assert checked(http(site.url(), **fields)).error == error


@pytest.mark.parametrize("charset", ["iso-8859-1", "windows-1252", "utf-16", "koi8-r"])
def test_a_keyword_is_found_in_the_encoding_that_the_server_names(site: Site, charset: str) -> None:
    word = "привет" if charset == "koi8-r" else "schön"
    site.pages["/"] = says(200, word.encode(charset), Content_Type=f'text/html; charset="{charset}"')
    assert checked(http(site.url(), keyword=word)).ok


@pytest.mark.parametrize("charset", ["punycode", "idna", "undefined", "hex", "no-such", "windows-999", "ü", "utf-8x"])
def test_an_encoding_that_is_none_of_the_web_does_no_harm(site: Site, charset: str) -> None:
    site.pages["/"] = says(200, b"a-" * 200_000 + b"well", Content_Type=f"text/html; charset={charset}")
    assert checked(http(site.url(), keyword="well")).ok


def test_a_compressed_body_is_not_searched_and_says_so(site: Site) -> None:
    site.pages["/"] = says(200, b"\x1f\x8b", Content_Encoding="gzip")
    assert "“gzip”, which was not asked for" in (checked(http(site.url(), keyword="x")).error or "")
    assert checked(http(site.url())).ok


def test_redirects_are_followed_to_the_end(site: Site) -> None:
    site.pages |= {
        "/1": says(301, Location="/2"),
        "/2": says(302, Location=site.url("/3")),
        "/3": says(307, Location="4?x=ü".encode().decode("latin-1")),
        "/4": says(200, b"here"),
    }
    assert checked(http(site.url("/1"), keyword="here")).ok
    assert [path for path, _ in site.visits] == ["/1", "/2", "/3", "/4?x=%C3%BC"]


def test_a_redirect_is_the_answer_when_none_are_to_be_followed(site: Site) -> None:
    site.pages["/old"] = says(301, Location="/")
    assert checked(http(site.url("/old"), redirects=0, expect_status="301")).ok
    assert checked(http(site.url("/old"), redirects=0)).ok
    assert not checked(http(site.url("/old"), redirects=0, expect_status="200")).ok
    assert len(site.visits) == 3


def test_redirects_in_a_circle_end(site: Site) -> None:
    site.pages |= {"/a": says(302, Location="/b"), "/b": says(302, Location="/a")}
    assert "redirects in a circle" in (checked(http(site.url("/a"))).error or "")
    assert len(site.visits) == 2


def test_redirects_without_end_end(site: Site) -> None:
    for number in range(30):
        site.pages[f"/{number}"] = says(302, Location=f"/{number + 1}")
    assert "more than 4 redirects" in (checked(http(site.url("/0"), redirects=4)).error or "")
    assert len(site.visits) == 5


@pytest.mark.parametrize(
    ("location", "why"),
    [
        ("ftp://example.com/", "http:// or https://"),
        ("file:///etc/passwd", "http:// or https://"),
        ("http://user:hunter2@example.com/", "no user name or password"),
        ("http://a b/", "no name"),
        ("http://example.com:99999/", "malformed"),
    ],
)
def test_a_redirect_to_what_is_no_web_address_is_a_failure(site: Site, location: str, why: str) -> None:
    site.pages["/"] = says(302, Location=location)
    outcome = checked(http(site.url()))
    assert outcome.error
    assert why in outcome.error
    assert "hunter2" not in outcome.error


@pytest.mark.parametrize(
    "there", ["10.0.0.1", "169.254.169.254", "[::1]", "0x7f.2", "2130706434", "[::ffff:127.0.0.2]"]
)
def test_a_redirect_to_an_address_inside_is_not_followed(site: Site, there: str) -> None:
    site.pages["/"] = says(302, Location=f"http://{there}:{site.port}/secret")
    outcome = checked(http(site.url()), Way(parse_networks("127.0.0.1")))
    assert "ALLOW_PRIVATE_ADDRESSES" in (outcome.error or "")
    assert outcome.final, "asking again would bring the same"
    assert [path for path, _ in site.visits] == ["/"]


def test_a_redirect_to_a_name_that_turns_private_is_not_followed(site: Site) -> None:
    """Each hop is resolved and judged anew: public for the first one, private for the second."""
    answers = iter(["127.0.0.1", "10.0.0.1"])

    def rebinding(_host: str, port: int) -> Sequence[Endpoint]:
        return [(socket.AF_INET, (next(answers), port))]

    site.pages["/"] = says(302, Location=f"http://site.example:{site.port}/secret")
    outcome = checked(http(site.url("/", "site.example")), Way(parse_networks("127.0.0.1"), resolve=rebinding))
    assert "site.example is 10.0.0.1, a private address" in (outcome.error or "")
    assert len(site.visits) == 1


def test_without_the_setting_this_machine_is_refused_and_not_visited(site: Site) -> None:
    outcome = checked(http(site.url()), Way())
    assert "127.0.0.1 is a loopback address" in (outcome.error or "")
    assert site.visits == []


def test_a_server_that_does_not_answer_costs_the_time_out_and_no_more() -> None:
    with Port(hang_up=False) as port, Watch() as watch:
        outcome = checked(http(f"http://127.0.0.1:{port.port}/", timeout_seconds=1))
    assert outcome.error == "no complete answer within 1 s"
    assert watch.seconds < 30


@pytest.mark.parametrize(
    "first", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"], ids=range(3)
)
def test_a_server_that_dribbles_is_held_to_the_whole_time(first: bytes) -> None:
    """Each byte comes within any time-out of a socket; the status line, a header, a body."""
    with Port(first, *[b"x"] * 1000, pause=0.1) as port, Watch() as watch:
        outcome = checked(http(f"http://127.0.0.1:{port.port}/", timeout_seconds=1, keyword="well"))
    assert outcome.error == "no complete answer within 1 s"
    assert watch.seconds < 30


def test_a_body_without_end_is_read_to_the_limit(site: Site) -> None:
    def endless(visit: Visit) -> None:
        visit.send_response(200)
        visit.end_headers()
        visit.until_gone(b"no " * 10_000)

    site.pages["/"] = endless
    assert checked(http(site.url(), keyword="yes")).error == "the text “yes” is missing in its first 1024 KiB"
    assert checked(http(site.url(), keyword="no", not_keyword="yes")).ok


def test_a_body_that_nobody_searches_is_not_read(site: Site) -> None:
    def stream(visit: Visit) -> None:
        visit.send_response(200)
        visit.end_headers()
        visit.until_gone(b": ping\n", pause=0.05)

    site.pages["/"] = stream
    assert checked(http(site.url(), timeout_seconds=5)).ok


def test_a_body_of_exactly_the_limit_is_whole(site: Site) -> None:
    site.pages["/"] = says(200, b"x" * LARGEST_BODY)
    answer = exchange(parse_url(site.url()), HERE, Budget(20), wants=lambda _: LARGEST_BODY)
    assert (len(answer.body), answer.whole) == (LARGEST_BODY, True)
    site.pages["/"] = says(200, b"x" * (LARGEST_BODY + 1))
    answer = exchange(parse_url(site.url()), HERE, Budget(20), wants=lambda _: LARGEST_BODY)
    assert (len(answer.body), answer.whole) == (LARGEST_BODY, False)


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nall is well",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nall i\r\n",
    ],
)
def test_an_answer_that_breaks_off_is_a_failure(said: bytes) -> None:
    with Port(said) as port:
        outcome = checked(http(f"http://127.0.0.1:{port.port}/", keyword="well"))
    assert outcome.error == f"127.0.0.1:{port.port} closed the connection inside the answer"


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"", "closed the connection without an answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not speak HTTP: SSH-2.0-OpenSSH_9.2"),
        (b"HTTP/1.1 abc\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 1000, "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"b" * 100_000, "does not speak HTTP"),
        (b"\x1b[31m\x00evil\r\n", "does not speak HTTP"),
    ],
)
def test_what_is_no_http_is_a_failure_in_plain_words(said: bytes, error: str) -> None:
    with Port(said) as port:
        outcome = checked(http(f"http://127.0.0.1:{port.port}/"))
    assert outcome.error
    assert error in outcome.error
    assert outcome.error.isprintable()


def test_endless_100_continue_is_held_to_the_time() -> None:
    with Port(*[b"HTTP/1.1 100 Continue\r\n\r\n"] * 1000, pause=0.05) as port:
        outcome = checked(http(f"http://127.0.0.1:{port.port}/", timeout_seconds=1))
    assert outcome.error == "no complete answer within 1 s"


def test_a_closed_port_is_a_failure_that_says_so() -> None:
    outcome = checked(http(f"http://127.0.0.1:{free_port()}/"))
    assert "refuses connections" in (outcome.error or "")


def test_a_stop_ends_a_check_at_once_and_without_a_verdict() -> None:
    stop = threading.Event()
    with Port(hang_up=False) as port, Watch() as watch:
        threading.Timer(0.2, stop.set).start()
        with pytest.raises(Stopped):
            check_http(http(f"http://127.0.0.1:{port.port}/", timeout_seconds=60), HERE, stop)
    assert watch.seconds < 30


def test_a_failure_is_looked_at_twice_before_it_is_one(site: Site) -> None:
    """A page that fails once: a lost packet, a restart of a moment."""
    answers = iter([503, 200, 503, 503])
    site.pages["/"] = lambda visit: visit.say(next(answers))
    assert check(http(site.url()), HERE, NEVER, pause=0).ok
    assert not check(http(site.url()), HERE, NEVER, pause=0).ok
    assert len(site.visits) == 4


# TLS

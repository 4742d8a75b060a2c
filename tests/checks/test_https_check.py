"""HTTPS checks against real servers: certificates are always verified."""

from __future__ import annotations

import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from app.mail.exchange import Way
from app.schedules.checks.http_check import check_http
from app.schedules.checks.outcome import Outcome
from app.schedules.checks.target import Wanted
from tests.checks.site import HERE, Port, Site, Visit, Watch, http
from tests.smtp_faults import Certificates, make_certificates

NEVER = threading.Event()


def checked(wanted: Wanted, way: Way = HERE) -> Outcome:
    return check_http(wanted, way, NEVER)


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as made:
        yield made


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


def trusting(certificates: Certificates) -> Way:
    return Way(HERE.allow_private, tls=partial(ssl.create_default_context, cafile=str(certificates.authority)))


def test_https_is_verified_and_tells_when_the_certificate_ends(certificates: Certificates) -> None:
    with Site(certificates=certificates) as site:
        outcome = checked(http(site.url("/", "localhost"), keyword="well"), trusting(certificates))
    assert outcome.ok, outcome.error
    assert outcome.timing.tls > 0
    assert outcome.certificate_until
    days = (outcome.certificate_until / 1000 - time.time()) / 86_400
    assert 1.9 < days < 2.1


def test_a_certificate_of_nobody_we_trust_is_a_finding(certificates: Certificates) -> None:
    with Site(certificates=certificates) as site:
        outcome = checked(http(site.url("/", "localhost")))
        assert site.visits == [], "the request is sent to nobody who may be somebody else"
    assert "the TLS certificate of localhost is not valid" in (outcome.error or "")


def test_a_certificate_for_another_name_is_a_finding(tmp_path: Path) -> None:
    elsewhere = make_certificates(tmp_path / "other", "DNS:other.example")
    with Site(certificates=elsewhere) as site:
        outcome = checked(http(site.url("/", "localhost")), trusting(elsewhere))
    assert "is not valid" in (outcome.error or "")
    assert "mismatch" in (outcome.error or "").lower()


def test_a_certificate_that_has_ended_is_a_finding(certificates: Certificates, tmp_path: Path) -> None:
    where = certificates.authority.parent
    arguments = (
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days -1 -extfile names.cnf -out"
    ).split()
    subprocess.run(["openssl", *arguments, str(tmp_path / "old.pem")], cwd=where, check=True, capture_output=True)
    old = Certificates(certificates.authority, tmp_path / "old.pem", certificates.key)
    with Site(certificates=old) as site:
        outcome = checked(http(site.url("/", "localhost")), trusting(certificates))
    assert outcome.error == "the TLS certificate of localhost is not valid: certificate has expired"


def test_a_port_without_tls_is_a_finding(site: Site) -> None:
    outcome = checked(http(f"https://127.0.0.1:{site.port}/"))
    assert f"TLS with 127.0.0.1:{site.port} failed" in (outcome.error or "")


def test_a_handshake_that_never_ends_is_held_to_the_time() -> None:
    with Port(hang_up=False) as port, Watch() as watch:
        outcome = checked(http(f"https://127.0.0.1:{port.port}/", timeout_seconds=1))
    assert outcome.error == "no complete answer within 1 s"
    assert watch.seconds < 30


def test_a_slow_https_server_is_read_over_many_waits(certificates: Certificates) -> None:
    def slow(visit: Visit) -> None:
        visit.send_response(200)
        visit.end_headers()
        for part in (b"all ", b"is ", b"well"):
            visit.wfile.write(part)
            time.sleep(0.3)

    with Site({"/": slow}, certificates) as site:
        outcome = checked(http(site.url("/", "localhost"), keyword="all is well"), trusting(certificates))
    assert outcome.ok, outcome.error

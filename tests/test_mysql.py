"""A connection to MySQL: TLS where the server offers it, and no certificates read for nothing."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.db import connect
from tests.ports import free_port
from tests.services import private_mariadb
from tests.smtp_faults import make_certificates


@pytest.fixture
def no_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads the machine's authorities fails."""

    def fail(*_: object) -> None:
        raise AssertionError("the certificates of the machine were read")

    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", fail)
    monkeypatch.setattr(ssl.SSLContext, "set_default_verify_paths", fail)


@pytest.mark.usefixtures("no_certificates")
def test_a_connection_reads_no_certificates(mariadb: str) -> None:
    db = connect(mariadb.format(name="mysql"))
    assert db.value("SELECT 1") == 1
    db.close()


@pytest.fixture(scope="module")
def offering_tls(short_directory: Path) -> Iterator[str]:
    """The DATABASE_URL of a server that listens on a port and has a certificate of an authority nobody knows."""
    directory = Path(tempfile.mkdtemp(dir=short_directory))
    made, port = make_certificates(directory / "tls"), free_port()
    options = (
        "--skip-networking=0", "--bind-address=127.0.0.1", f"--port={port}", f"--ssl-cert={made.certificate}",
        f"--ssl-key={made.key}",
    )  # fmt: skip
    with private_mariadb(directory, *options) as url:
        own = connect(url.format(name="mysql"))
        own.run("CREATE USER tester@localhost IDENTIFIED BY 'secret'")
        own.run("GRANT ALL ON *.* TO tester@localhost")
        own.close()
        yield f"mysql://tester:secret@127.0.0.1:{port}/mysql"


@pytest.mark.usefixtures("no_certificates")
def test_tls_is_spoken_with_a_server_that_offers_it(offering_tls: str) -> None:
    for _ in range(2):
        db = connect(offering_tls)
        assert db.rows("SHOW STATUS LIKE 'Ssl_cipher'")[0][1]
        db.close()

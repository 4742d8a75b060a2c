"""Open a line to an SMTP server: connect, EHLO, STARTTLS, AUTH, with `smtplib` doing the talking."""

from __future__ import annotations

import functools
import smtplib
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from app.errors import Unavailable
from app.mail.line import Line, PlainLine, Timeouts, TlsLine, Watch
from app.mail.replies import one_line


class ProviderTrouble(Unavailable):
    """Raised when a server cannot be used now; the text says what a person can check.

    `permanent`: trying again will not help until somebody changes something. `code` is the reply's,
    None when the server said nothing.
    """

    def __init__(self, reason: str, *, permanent: bool = False, code: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.permanent = permanent
        self.code = code


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where a server is and how to log in. `tls_ca`: a PEM file that replaces the system's authorities."""

    host: str
    port: int
    tls: Literal["none", "starttls", "tls"] = "none"
    tls_ca: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Extensions:
    """What the server offered in its last EHLO. `size_limit` 0: none that we know of (RFC 1870 §3)."""

    pipelining: bool
    smtputf8: bool
    size: bool
    size_limit: int


def open_line(
    server: ServerAddress,
    timeouts: Timeouts,
    local_hostname: str,
    watch: Watch,
    told: Callable[[str], object] = lambda _: None,
) -> tuple[Line, Extensions, bytes]:
    """A line ready for MAIL, what the server offers, and bytes it sent that nobody asked for.

    `told` hears of every step that went well. Raises ProviderTrouble.
    """
    smtp: _Smtp | None = None
    try:
        smtp = _Smtp(server, timeouts, local_hostname, watch)
        told(f"connected{' with TLS' if server.tls == 'tls' else ''}: {smtp.said}")
        smtp.ehlo_or_helo_if_needed()
        told(f"EHLO: {smtp.offers}")
        if server.tls == "starttls":
            smtp.starttls(context=smtp.context)
            smtp.ehlo_or_helo_if_needed()
            told(f"STARTTLS: the certificate is valid; EHLO: {smtp.offers}")
        if server.username:
            smtp.login(server.username, server.password or "")
            told(f"AUTH as {server.username}: {smtp.said}")
        return _take_over(smtp, timeouts)
    except (OSError, ValueError) as error:
        if smtp:
            smtp.close()
        if watch.aborted:
            raise ProviderTrouble(f"the connection to {server} was given up by us") from error
        raise _explain(error, server) from error


class _Smtp(smtplib.SMTP):
    """smtplib's client, with its progress watched and either kind of TLS."""

    def __init__(self, server: ServerAddress, timeouts: Timeouts, local_hostname: str, watch: Watch) -> None:
        self._server, self._timeouts, self._watch = server, timeouts, watch
        #: The last reply, on one line.
        self.said = ""
        self.context = _tls_context(server.tls_ca) if server.tls != "none" else None
        super().__init__(server.host, server.port, local_hostname)

    def _get_socket(self, host: str, port: int, _timeout: float) -> socket.socket:
        self._watch.moved(self._timeouts.connect)
        connected = socket.create_connection((host, port), self._timeouts.connect)
        connected.settimeout(self._timeouts.command)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._watch.hold(connected)
        self._watch.moved(self._timeouts.command)
        if self._server.tls == "tls" and self.context:
            return self.context.wrap_socket(connected, server_hostname=host)
        return connected

    def getreply(self) -> tuple[int, bytes]:
        reply = super().getreply()
        self.said = f"{reply[0]} {one_line(reply[1])}"
        self._watch.moved(self._timeouts.command)
        return reply

    @property
    def offers(self) -> str:
        """The names of the extensions it offers, as one line for people."""
        return " ".join(sorted(name.upper() for name in self.esmtp_features)) or "no extensions"


def _take_over(smtp: _Smtp, timeouts: Timeouts) -> tuple[Line, Extensions, bytes]:
    connected, file = smtp.sock, smtp.file
    assert connected is not None
    assert file is not None
    connected.settimeout(0)
    try:
        unasked: bytes = file.peek()
    except ssl.SSLWantReadError:
        unasked = b""
    file.close()
    # The socket is the line's now; smtplib must not close it when it is collected.
    smtp.file = smtp.sock = None
    limit = smtp.esmtp_features.get("size", "").strip()
    extensions = Extensions(
        pipelining=smtp.has_extn("pipelining"),
        smtputf8=smtp.has_extn("smtputf8"),
        size=smtp.has_extn("size"),
        size_limit=int(limit) if limit.isascii() and limit.isdigit() else 0,
    )
    if isinstance(connected, ssl.SSLSocket):
        return TlsLine(connected, timeouts.tick), extensions, unasked
    return PlainLine(connected, timeouts.tick), extensions, unasked


def _tls_context(tls_ca: str | None) -> ssl.SSLContext:
    """Certificate and host name are always checked (RFC 8314 §3, RFC 7817)."""
    if tls_ca is None:
        return _read_context(None, 0)
    try:
        return _read_context(tls_ca, Path(tls_ca).stat().st_mtime_ns)
    except (OSError, ssl.SSLError) as error:
        raise ProviderTrouble(
            f"the file of certificate authorities {tls_ca} cannot be read: {_words(error)}", permanent=True
        ) from error


@functools.lru_cache(maxsize=32)
def _read_context(tls_ca: str | None, _changed: int) -> ssl.SSLContext:
    # Kept: reading the system's authorities takes longer than a whole SMTP session.
    return ssl.create_default_context(cafile=tls_ca)


def _explain(error: Exception, server: ServerAddress) -> ProviderTrouble:
    """One sentence for a person. DNS, refused and silent servers may be back soon: not permanent."""
    match error:
        case smtplib.SMTPResponseException():
            return _explain_reply(error, server)
        case smtplib.SMTPNotSupportedError():
            what = "AUTH" if "AUTH" in str(error) else "STARTTLS"
            return ProviderTrouble(f"{server} does not offer {what}", permanent=True)
        case smtplib.SMTPServerDisconnected():
            return ProviderTrouble(f"{server} closed the connection or fell silent ({error})")
        case smtplib.SMTPException():
            # The only other one: no login mechanism in common.
            return ProviderTrouble(f"{server}: {error}", permanent=True)
        case UnicodeError():
            return ProviderTrouble(
                f"the host name, user name or password of {server} has characters that cannot be sent: {error}",
                permanent=True,
            )
        case ssl.SSLCertVerificationError():
            return ProviderTrouble(
                f"the TLS certificate of {server} is not valid: {error.verify_message}"
                " (the file of a private authority is named by tls_ca)",
                permanent=True,
            )
        case ssl.SSLError():
            return ProviderTrouble(f"TLS with {server} failed: {_words(error)}")
        case socket.gaierror():
            return ProviderTrouble(f"the name {server.host} cannot be resolved: {error.strerror}")
        case TimeoutError():
            return ProviderTrouble(f"{server} does not answer")
        case ConnectionRefusedError():
            return ProviderTrouble(f"{server} refuses connections: nothing listens there, or a firewall")
    return ProviderTrouble(f"no connection to {server}: {_words(error)}")


def _explain_reply(error: smtplib.SMTPResponseException, server: ServerAddress) -> ProviderTrouble:
    said, code = error.smtp_error, error.smtp_code
    text = one_line(said if isinstance(said, bytes) else str(said).encode())
    if not 200 <= code <= 599:
        return ProviderTrouble(f"{server} does not speak SMTP: {text!r}")
    if isinstance(error, smtplib.SMTPAuthenticationError):
        what = f"{server} rejected the user name or password"
    elif isinstance(error, smtplib.SMTPConnectError):
        what = f"{server} greeted us with a refusal"
    elif isinstance(error, smtplib.SMTPHeloError):
        what = f"{server} refused EHLO and HELO"
    else:
        what = f"{server} refused STARTTLS or the login"
    return ProviderTrouble(f"{what}: {code} {text}", permanent=code >= 500, code=code)


def _words(error: Exception) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    return getattr(error, "strerror", None) or str(error) or type(error).__name__

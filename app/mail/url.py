"""URLs that strangers give us, as what is asked of whom; none may hold a password or smuggle a header."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, urljoin, urlsplit

import idna

LONGEST = 2000
PORTS = {"http": 80, "https": 443}

#: `_` is in no host name by the book and in many that work.
_HOST = re.compile(r"(?!-)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?")
_V6 = re.compile(r"[0-9a-f:.]+")
#: What stays as it is in a path or query; everything else is percent-encoded.
_SAFE = "!#$%&'()*+,/:;=?@[]~"


@dataclass(frozen=True, slots=True)
class Url:
    """An http or https URL taken apart. `host` is ASCII, an IPv6 address without brackets; `target` begins with /."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """What the Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """Without path and query, which may hold keys."""
        return f"{self.scheme}://{self.authority}"

    def __str__(self) -> str:
        return self.origin + self.target


def parse_url(text: str) -> Url:
    """Raises ValueError, whose text says what is wrong and repeats nothing of the URL but its scheme."""
    if len(text) > LONGEST:
        raise ValueError(f"it is longer than {LONGEST} characters")
    # `urlsplit` drops tabs and line ends without a word.
    if not text.isprintable() or " " in text or "\\" in text:
        raise ValueError("it contains a space, a backslash or a control character")
    try:
        parts = urlsplit(text)
        port, name = parts.port, parts.hostname
    except ValueError:
        # Without its text, which may quote a password.
        raise ValueError("its host or its port (1 to 65535) is malformed") from None
    if parts.scheme not in PORTS:
        raise ValueError("it must begin with http:// or https://")
    if "@" in parts.netloc:
        raise ValueError("it must hold no user name or password")
    if port == 0 or not name:
        raise ValueError("its host is missing, or its port is 0")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Url(parts.scheme, parse_host(name), port or PORTS[parts.scheme], quote(target, safe=_SAFE))


def parse_host(text: str) -> str:
    """A host's name or address in ASCII, without brackets; raises ValueError."""
    name = text.lower().removeprefix("[").removesuffix("]")
    if ":" in name:
        if not _V6.fullmatch(name):
            raise ValueError(f"the host {text!r} is no IPv6 address")
        return name
    if not name.isascii():
        try:
            name = idna.encode(name, uts46=True).decode()
        except idna.IDNAError as error:
            raise ValueError(f"the host {text!r} is no name ({error})") from None
    if len(name) > 253 or not _HOST.fullmatch(name):
        raise ValueError(f"the host {text!r} is no name")
    return name


def redirected(url: Url, location: str) -> Url:
    """Where a Location header leads. Raises ValueError as `parse_url` does.

    `location` is as http.client read it: bytes as Latin-1, where servers mean UTF-8.
    """
    said = quote(location.encode("latin-1"), safe=_SAFE)
    return parse_url(urljoin(str(url), said))

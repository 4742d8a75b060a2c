"""Which IP addresses are not of the public internet, and what a person has allowed all the same.

Written out from IANA's registries of special-purpose addresses, because `ipaddress.is_private` means
something else in each release of Python.
"""

from __future__ import annotations

import ipaddress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address
Networks = tuple[IPv4Network | IPv6Network, ...]

EVERYTHING: Networks = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))

#: Here a cloud tells any program of a machine the machine's own keys. Only allowed when named exactly.
METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254",  # nearly all
        "169.254.170.2",  # Amazon, containers
        "169.254.170.23",  # Amazon, pods
        "100.100.100.200",  # Alibaba
        "168.63.129.16",  # Azure; looks public
        "192.0.0.192",  # Oracle
        "fd00:ec2::254",  # Amazon
        "fd00:ec2::23",  # Amazon, pods
        "fd20:ce::254",  # Google
    )
)

_V4 = tuple(
    (IPv4Network(text), kind)
    for text, kind in (
        ("0.0.0.0/8", "an unspecified"),
        ("10.0.0.0/8", "a private"),
        ("100.64.0.0/10", "a carrier's private"),
        ("127.0.0.0/8", "a loopback"),
        ("169.254.0.0/16", "a link-local"),
        ("172.16.0.0/12", "a private"),
        ("192.0.0.0/24", "a reserved"),
        ("192.0.2.0/24", "a documentation"),
        ("192.88.99.0/24", "a reserved"),  # relays of 6to4, given up by RFC 7526
        ("192.168.0.0/16", "a private"),
        ("198.18.0.0/15", "a benchmark"),
        ("198.51.100.0/24", "a documentation"),
        ("203.0.113.0/24", "a documentation"),
        ("224.0.0.0/4", "a multicast"),
        ("240.0.0.0/4", "a reserved"),
    )
)

_V6 = tuple(
    (IPv6Network(text), kind)
    for text, kind in (
        ("::/128", "an unspecified"),
        ("::1/128", "a loopback"),
        ("fc00::/7", "a private"),
        ("fe80::/10", "a link-local"),
        ("fec0::/10", "a private"),  # site-local, given up by RFC 3879
        ("ff00::/8", "a multicast"),
        ("2001::/32", "a tunnelled (Teredo)"),
        ("2001::/23", "a reserved"),
        ("2001:db8::/32", "a documentation"),
        ("3fff::/20", "a documentation"),
    )
)

#: All that has been given out to the public so far.
_V6_PUBLIC = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")


def parse_networks(text: str) -> Networks:
    """Networks from `all`, or from addresses and CIDR blocks behind commas; raises ValueError."""
    if text.strip().lower() == "all":
        return EVERYTHING
    return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip())


def forbidden(address: Address, allowed: Networks = ()) -> str | None:
    """Why nothing may be connected to at this address ("a private address"), None when it may."""
    inner = _within(address)
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        # For the kernel both are the same, so what is allowed for one is for the other.
        address = address.ipv4_mapped
    if any(one in METADATA and not _is_named(one, allowed) for one in (address, inner)):
        return "a cloud's metadata address"
    if any(network.version == address.version and address in network for network in allowed):
        return None
    if kind := _special(address):
        return f"{kind} address"
    if inner and (kind := _special(inner)):
        return f"{kind} address ({inner}) inside an IPv6 one"
    return None


def _is_named(address: Address | None, allowed: Networks) -> bool:
    return any(network.num_addresses == 1 and network.network_address == address for network in allowed)


def _special(address: Address) -> str | None:
    """What an address is that is not public; None for a public one, and for one that stands for IPv4."""
    if isinstance(address, IPv4Address):
        return next((kind for network, kind in _V4 if address in network), None)
    for network, kind in _V6:
        if address in network:
            return kind
    return None if address in _V6_PUBLIC or address in _NAT64 else "a reserved"


def _within(address: Address) -> IPv4Address | None:
    """The IPv4 address that a translator or a tunnel takes out of an IPv6 one."""
    if isinstance(address, IPv4Address):
        return None
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour

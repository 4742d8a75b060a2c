"""Nothing outside goes to an address that is not public, however the address is written or found."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Sequence

import pytest

from app.addresses import EVERYTHING, METADATA, Networks, forbidden, parse_networks
from app.config import read_settings, setting_problems
from app.errors import AddressRefused, SettingError, Unavailable
from app.mail.exchange import Way, exchange
from app.mail.outgoing import Budget, Endpoint, Stopped, connect, judge_literal, resolve_public
from app.mail.url import parse_url
from tests.checks.site import Port, Site
from tests.ports import free_port

PUBLIC = "93.184.215.14"


def at(*addresses: str) -> list[Endpoint]:
    """What a resolver answers."""
    return [(socket.AF_INET6 if ":" in a else socket.AF_INET, (a, 80)) for a in addresses]


def resolved(host: str, allowed: Networks = (), *addresses: str) -> list[Endpoint]:
    return resolve_public(host, 80, allowed, resolve=(lambda *_: at(*addresses)) if addresses else None)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.9.10", "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255",
        "192.168.0.1", "169.254.1.1", "169.254.169.254", "100.64.0.1", "100.127.255.254", "192.0.0.8", "192.0.2.1",
        "198.18.0.1", "198.19.255.255", "198.51.100.7", "203.0.113.7", "192.88.99.1", "224.0.0.1", "239.1.1.1",
        "240.0.0.1", "255.255.255.255", "168.63.129.16", "100.100.100.200",
        "::", "::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%lo", "fec0::1", "ff02::1", "2001:db8::1",
        "100::1", "4000::1", "2001:2::1", "3fff::1", "5f00::1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0:127.0.0.1", "::127.0.0.1", "::a00:1",
        "64:ff9b::10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1.1.1.1",
        "2002:0a00:0001::1", "2002:7f00:1::", "2002:a9fe:a9fe::1", "2001:0:5ef5:79fb::1",
    ],
)  # fmt: skip
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    with pytest.raises(AddressRefused, match="ALLOW_PRIVATE_ADDRESSES"):
        resolved("evil.example", (), address)


@pytest.mark.parametrize(
    "address",
    [
        PUBLIC, "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "172.15.255.255", "172.32.0.0", "100.63.255.255",
        "100.128.0.0", "192.0.1.1", "198.17.255.255", "198.20.0.0", "223.255.255.255", "169.253.1.1",
        "2606:4700:4700::1111", "2a00:1450:4001:80b::200e", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1",
        "2001:200::1",
    ],
)  # fmt: skip
def test_a_public_address_is_not(address: str) -> None:
    assert resolved("good.example", (), address) == at(address)


@pytest.mark.parametrize(
    "host",
    ["0x7f.1", "2130706433", "0177.0.0.1", "127.1", "0x7f000001", "017700000001", "0", "0xa9fea9fe", "2852039166",
     "::1", "::ffff:7f00:1", "localhost"],
)  # fmt: skip
def test_odd_spellings_are_judged_by_what_they_resolve_to(host: str) -> None:
    """The machine's own resolver reads them, and it is what would connect."""
    with pytest.raises(AddressRefused):
        resolved(host)


def test_a_refusal_names_host_address_and_setting() -> None:
    with pytest.raises(AddressRefused) as refusal:
        resolved("intra.example", (), "10.1.2.3")
    for word in ("intra.example", "10.1.2.3", "a private address", "ALLOW_PRIVATE_ADDRESSES=10.1.2.3"):
        assert word in str(refusal.value)


@pytest.mark.parametrize("addresses", [(PUBLIC, "10.0.0.1"), ("10.0.0.1", PUBLIC), (PUBLIC, "2606:4700::1", "::1")])
def test_one_bad_address_among_good_ones_refuses_the_host(addresses: Sequence[str]) -> None:
    with pytest.raises(AddressRefused):
        resolved("mixed.example", (), *addresses)


def test_what_a_setting_allows_may_be_reached_and_nothing_beside_it() -> None:
    allowed = parse_networks("10.0.0.0/8, 127.0.0.1,fd12::/16")
    for address in ("10.9.8.7", "127.0.0.1", "::ffff:10.9.8.7", "fd12::5"):
        assert resolved("h", allowed, address)
    for address in ("127.0.0.2", "192.168.0.1", "fd13::5", "64:ff9b::10.9.8.7", "2002:a00:1::"):
        with pytest.raises(AddressRefused):
            resolved("h", allowed, address)


@pytest.mark.parametrize("address", sorted(METADATA, key=str), ids=str)
def test_a_clouds_keys_are_safe_until_their_address_is_named_exactly(address: ipaddress.IPv4Address) -> None:
    assert forbidden(address, EVERYTHING)
    assert forbidden(address, parse_networks("169.254.0.0/16,fd00::/8,100.64.0.0/10")) == "a cloud's metadata address"
    assert forbidden(address, parse_networks(str(address))) is None


def test_all_allows_everything_else() -> None:
    for address in ("127.0.0.1", "::1", "10.0.0.1", "fe80::1", "64:ff9b::10.0.0.1"):
        assert forbidden(ipaddress.ip_address(address), EVERYTHING) is None
    for address in ("64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::", "::ffff:169.254.169.254"):
        assert forbidden(ipaddress.ip_address(address), EVERYTHING)


def test_the_setting_is_read_and_refused_by_name() -> None:
    assert read_settings({}).allow_private_addresses == ()
    assert read_settings({"ALLOW_PRIVATE_ADDRESSES": "all"}).allow_private_addresses == EVERYTHING
    with pytest.raises(SettingError, match=r"ALLOW_PRIVATE_ADDRESSES='10\.0\.0\.1/8'.*10\.0\.0\.0/8,127\.0\.0\.1"):
        read_settings({"ALLOW_PRIVATE_ADDRESSES": "10.0.0.1/8"})
    assert [p.name for p in setting_problems({"ALLOW_PRIVATE_ADDRESSES": "yes"})] == ["ALLOW_PRIVATE_ADDRESSES"]


def test_a_name_that_does_not_exist_is_said_as_such() -> None:
    with pytest.raises(Unavailable, match=r"the name no\.such\.invalid cannot be resolved"):
        resolved("no.such.invalid")


def test_a_literal_is_judged_without_a_resolver_and_a_name_passes() -> None:
    judge_literal("intra.example", ())
    judge_literal(PUBLIC, ())
    for host in ("10.0.0.1", "0x7f.1", "2130706433", "::1"):
        with pytest.raises(AddressRefused):
            judge_literal(host, ())


def test_a_name_that_is_public_when_judged_and_private_when_used_leads_nowhere() -> None:
    """DNS rebinding: asked once, the connection goes to the answer that was judged."""
    answers = iter([at("127.0.0.1"), at("10.0.0.1")])
    asked = []

    def rebinding(host: str, port: int) -> Sequence[Endpoint]:
        asked.append(host)
        return [(family, (address, port)) for family, (address, _) in next(answers)]

    with Site() as site:
        way = Way(parse_networks("127.0.0.1"), resolve=rebinding)
        url = parse_url(site.url("/", "rebinding.example"))
        assert exchange(url, way, Budget(10)).status == 200
        assert asked == ["rebinding.example"], "resolved once for judging and connecting"
        with pytest.raises(AddressRefused):
            exchange(url, way, Budget(10))
        assert len(site.visits) == 1


class Hanging:
    """A resolver that gives no answer until it is let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()

    def __call__(self, _host: str, _port: int) -> Sequence[Endpoint]:
        self.let_go.wait()
        return []


def test_a_resolver_that_hangs_uses_up_the_budget_and_no_more() -> None:
    resolver = Hanging()
    with pytest.raises(TimeoutError):
        resolve_public("slow.example", 80, (), budget=Budget(0.3), resolve=resolver)
    resolver.let_go.set()


def test_who_is_told_to_stop_stops_waiting_for_a_resolver() -> None:
    resolver, stop = Hanging(), threading.Event()
    threading.Timer(0.2, stop.set).start()
    with pytest.raises(Stopped):
        resolve_public("slow.example", 80, (), budget=Budget(60, stop), resolve=resolver)
    resolver.let_go.set()


def test_the_next_address_is_tried_when_one_does_not_answer() -> None:
    with Port() as port:
        dead = (socket.AF_INET, ("127.0.0.1", free_port()))
        connect([dead, dead, (socket.AF_INET, ("127.0.0.1", port.port))], Budget(10)).close()


def test_what_each_address_said_is_told() -> None:
    closed = free_port()
    with pytest.raises(Unavailable, match=f"127.0.0.1:{closed} refuses connections"):
        connect([(socket.AF_INET, ("127.0.0.1", closed))], Budget(10))

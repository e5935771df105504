"""Published ports as people write them."""

from __future__ import annotations

import pytest

from vmtool.spec.published_port import Publish


@pytest.mark.parametrize(("text", "expected"), [
    ("8000", Publish(8000, 8000)),
    ("18000:8000", Publish(18000, 8000)),
    ("0.0.0.0:18000:8000", Publish(18000, 8000, "0.0.0.0")),
    ("192.0.2.7:53:5353/udp", Publish(53, 5353, "192.0.2.7", "udp")),
    (" 1:65535/tcp ", Publish(1, 65535)),
])
def test_forms(text: str, expected: Publish) -> None:
    assert Publish.parse(text) == expected
    assert Publish.parse(str(expected)) == expected


@pytest.mark.parametrize(("text", "message"), [
    ("", "is not PORT"), ("http", "is not PORT"), ("1:2:3:4", "is not PORT"), ("127.0.0.1:8000", "is not PORT"),
    ("-1", "is not PORT"), ("[::1]:1:2", "is not PORT"), ("٣", "is not PORT"),
    (":1:2", "'' is not an IPv4 address"), ("localhost:1:2", "'localhost' is not an IPv4 address"),
    ("1.2.3.4.5:1:2", "is not an IPv4 address"), ("0", "0 is not a port"), ("65536", "65536 is not a port"),
    ("1:99999999999999999999", "99999999 is not a port"), ("8000/sctp", "the protocol is tcp or udp"),
])
def test_refusals(text: str, message: str) -> None:
    with pytest.raises(ValueError, match="^.*" + message.replace(".", r"\.")):
        Publish.parse(text)


@pytest.mark.parametrize(("ip", "port", "protocol", "overlaps"), [
    ("127.0.0.1", 18000, "tcp", True), ("0.0.0.0", 18000, "tcp", True), ("*", 18000, "tcp", True),
    ("::", 18000, "tcp", True), ("192.0.2.1", 18000, "tcp", False), ("127.0.0.1", 18001, "tcp", False),
    ("127.0.0.1", 18000, "udp", False),
])
def test_a_port_on_loopback_overlaps_the_same_and_every_address(ip: str, port: int, protocol: str,
                                                                overlaps: bool) -> None:
    assert Publish(18000, 8000).overlaps(ip, port, protocol) is overlaps
    assert Publish(18000, 8000, "0.0.0.0").overlaps(ip, port, protocol) is ((port, protocol) == (18000, "tcp"))


def test_loopback_is_the_default() -> None:
    assert Publish.parse("8000").loopback
    assert Publish.parse("127.1.2.3:1:1").loopback
    assert not Publish.parse("0.0.0.0:1:1").loopback

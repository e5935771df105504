"""Where a server is: URLs, instances, and what is refused before anything is asked."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from vmtool.attest.server.place import is_loopback, parse_url
from vmtool.connect.commands import parse_listen
from vmtool.endpoint.client import Address
from vmtool.errors import Refused
from vmtool.launch.commands import find_server as found
from vmtool.launch.commands.find_server import find_server
from vmtool.machine import Trust
from vmtool.paths import State


@pytest.mark.parametrize(("url", "parts"), [
    ("https://llm.lab:8443", ("https", "llm.lab", 8443)), ("https://llm.lab/v1", ("https", "llm.lab", 443)),
    ("http://127.0.0.1:8000/v1/", ("http", "127.0.0.1", 8000)), ("https://[::1]:8443/", ("https", "::1", 8443)),
    ("HTTPS://LLM.lab", ("https", "llm.lab", 443)), ("https://bücher.lab", ("https", "xn--bcher-kva.lab", 443))])
def test_a_url_is_scheme_host_and_port(url: str, parts: tuple[str, str, int]) -> None:
    assert parse_url(url) == parts


@pytest.mark.parametrize("url", [
    "", "llm.lab", "llm.lab:8443", "ftp://llm.lab", "https://", "https://llm.lab/other", "https://llm.lab/v1/models",
    "https://llm.lab?x", "https://llm.lab#x", "https://llm.lab:0x1", "https://llm.lab:65536", "https://[::1",
    "https://user@llm.lab", "https://user:secret@llm.lab", "https://llm.lab\r\nHost: x", "https://l lm.lab",
    "https://" + "a" * 70 + ".lab", "https://.lab", "unix:///x"])
def test_anything_else_is_refused_and_no_password_is_shown(url: str) -> None:
    with pytest.raises(Refused) as refused:
        parse_url(url)
    assert "secret" not in refused.value.message


@pytest.mark.parametrize(("host", "loopback"), [
    ("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("localhost", True), ("localhost.evil", False),
    ("0.0.0.0", False), ("::", False), ("::ffff:127.0.0.1", False), ("127.0.0.1.evil", False), ("", False)])
def test_loopback_is_this_machine_alone(host: str, loopback: bool) -> None:
    assert is_loopback(host) == loopback


@pytest.mark.parametrize(("text", "address"), [("127.0.0.1:8001", ("127.0.0.1", 8001)), ("[::1]:0", ("::1", 0))])
def test_where_to_listen(text: str, address: tuple[str, int]) -> None:
    assert parse_listen(text, expose=False) == address


@pytest.mark.parametrize("text", ["", "8001", ":8001", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536",
                                  "127.0.0.1:-1", "localhost:1", "127.0.0.1:٣", "10.0.0.1:1", "0.0.0.0:1", "[::]:1"])
def test_it_listens_nowhere_else(text: str) -> None:
    with pytest.raises(Refused):
        parse_listen(text, expose=False)
    assert parse_listen("10.0.0.1:1", expose=True) == ("10.0.0.1", 1)


def test_by_url_the_evidence_or_the_ca_vouches(tmp_path: Path) -> None:
    place = find_server(State(tmp_path), "https://llm.lab:8443")
    assert (str(place), place.vouched) == ("https://llm.lab:8443", False)
    assert place.context and place.context.minimum_version == ssl.TLSVersion.TLSv1_3
    (tmp_path / "ca.pem").write_text("none")
    with pytest.raises(Refused, match=r"ca\.pem: no certificate of a CA"):
        find_server(State(tmp_path), "https://llm.lab", ca=tmp_path / "ca.pem")
    with pytest.raises(Refused, match="No such file"):
        find_server(State(tmp_path), "https://llm.lab", ca=tmp_path / "absent.pem")


def test_without_tls_only_loopback_and_only_unconfidential(tmp_path: Path) -> None:
    assert find_server(State(tmp_path), "http://127.0.0.1:8000", plain=True).context is None
    for url, plain, reason in (
            ("http://127.0.0.1:8000", False, "no key that evidence could be bound to"),
            ("http://10.0.0.1:8000", True, "not this machine's loopback"),
            ("http://localhost.evil", True, "not this machine's loopback")):
        with pytest.raises(Refused, match=reason):
            find_server(State(tmp_path), url, plain=plain)


class Known:
    """What is known of an instance that runs."""

    def __init__(self, trust: Trust | None, host: str) -> None:
        self.host, self.port, self.result, self.trust, self.url = host, 8000, "/r", trust, host

    def known(self) -> Known:
        return self


@pytest.mark.parametrize(("host", "trust", "shown"), [
    ("127.0.0.1", None, "http://127.0.0.1:8000"), ("10.2.0.2", Trust(Path("/tls")), "https://10.2.0.2:8000")])
def test_an_instance_of_this_machine_is_known_by_its_certificate(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, trust: Trust | None, shown: str) -> None:
    monkeypatch.setattr(found, "running", lambda state, name: Known(trust, host))
    asked: list[Trust] = []

    def known_server(known: Trust) -> ssl.SSLContext:
        asked.append(known)
        return ssl.create_default_context()

    monkeypatch.setattr(found, "known_server", known_server)
    monkeypatch.setattr(found, "address_of", lambda machine, server: Address(shown, trust))
    place = find_server(State(tmp_path), "chat", plain=True)
    assert (str(place), place.vouched, asked) == (shown, trust is not None, [trust] if trust else [])

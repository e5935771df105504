"""The embedded broker as a process, asked by the guest's own client over TLS, and by peers that mean no good."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.tee_guest import FakeGuest
from tests.integration.connect.software_tpm import swtpm
from tests.integration.machine import Vmtool
from tests.integration.serving.certificates import issue, trusting
from tests.integration.serving.processes import reserved_port
from tests.unit.broker.cases import NAME, SECRET, audited, write_config, write_reference
from vmtool.attest.tpm.structures import parse_public
from vmtool.serving.evidence.tpm import DEVICE
from vmtool.serving.evidence.tpm_commands import EMPTY_PASSWORD, SHA256, command
from vmtool.serving.kbs.attesters import Attester, find_attester, sample_evidence
from vmtool.serving.kbs.broker_source import BrokerSource
from vmtool.serving.kbs.errors import KeyNotReleased
from vmtool.serving.kbs.exchange import fetch
from vmtool.serving.kbs.http_calls import HttpServer
from vmtool.serving.kbs.source import read_key
from vmtool.serving.kbs.tsm import TsmReports
from vmtool.tls.authority import certificate_path

# The discard service: nothing of Confidential Containers is there.
NOBODY = "http://127.0.0.1:9"


class Broker:
    """A running one.

    Args:
        tls: whether it has a certificate; policies: by the resource's name.
    """

    def __init__(self, directory: Path, *, tls: bool = True, policies: Mapping[str, Mapping[str, Any]] | None = None,
                 roots: str | None = None, **limits: int) -> None:
        self.directory, self.held = directory, reserved_port()
        self.port = int(self.held.getsockname()[1])
        more: dict[str, Any] = ({"limits": limits} if limits else {}) | {"roots": roots}
        if tls:
            pair = issue(directory / "ca")
            (directory / "broker.pem").write_bytes(pair.certificate)
            (directory / "broker.key").write_bytes(pair.key)
            more["tls"] = {"source": "files", "certificate": "broker.pem", "key": "broker.key"}
        self.config = write_config(directory, policies, **more)
        self.url = f"{'https' if tls else 'http'}://localhost:{self.port}"
        self.ca = certificate_path(directory / "ca").read_text() if tls else ""

    @contextlib.contextmanager
    def running(self, user: int | None = None) -> Iterator[subprocess.Popen[str]]:
        argv = Vmtool(self.directory / "state").argv("key", "serve", self.config, "--listen", f"127.0.0.1:{self.port}")
        with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, user=user) as child:
            try:
                assert child.stderr and "the broker listens on" in child.stderr.readline()
                yield child
            finally:
                child.kill()
                self.held.close()

    def source(self, **changes: object) -> BrokerSource:
        values = {"resource": NAME, "url": self.url, "ca": self.ca, "allow_unconfidential": True, "hub": NOBODY}
        return BrokerSource(**(values | changes))  # type: ignore[arg-type]


def test_a_key_is_released_over_tls_and_the_broker_ends_when_it_is_told(tmp_path: Path) -> None:
    broker, said = Broker(tmp_path), list[str]()
    with broker.running() as child:
        assert read_key(broker.source(), said.append) == SECRET
        with pytest.raises(KeyNotReleased, match="PluginInternalError"):
            read_key(broker.source(resource="another/model/key"), said.append)
        other = tmp_path / "other"
        issue(other)
        with pytest.raises(KeyNotReleased, match="not of the given CA"):
            read_key(broker.source(ca=certificate_path(other).read_text()), said.append)
        child.send_signal(signal.SIGTERM)
        assert child.wait(30) == 0
        assert child.stderr and "stopped" in child.stderr.read()
    steps = [(line["step"], line["verdict"]) for line in audited(broker.config)]
    assert steps == [("start", "serves"), ("attest", "granted"), ("resource", "released"), ("attest", "granted"),
                     ("resource", "refused")]


def test_a_key_is_released_to_a_tpm_that_booted_what_was_enrolled_and_to_no_other(tmp_path: Path) -> None:
    """Real TPM code; the guest's own client, and the broker as a process."""
    with swtpm(tmp_path) as guest:
        attester = find_attester(None, allow_unconfidential=True, reports=TsmReports(guest))
        shown = attester.primary(bytes(48))
        name = parse_public(base64.b64decode(shown["ak_public"])).name.hex()
        write_reference(tmp_path, tpm={"keys": [name], "pcrs": {"sha256": {4: shown["pcrs"]["sha256"]["4"]}}})
        broker = Broker(tmp_path, policies={NAME: {"tee": ["tpm"], "reference": "tpm.yaml"}})
        with broker.running():
            server = HttpServer(broker.url, broker.ca)
            assert attester.tee == "tpm" and fetch(server, NAME, attester) == SECRET
            with pytest.raises(KeyNotReleased, match="attest: the broker refused: AttestationError"):
                fetch(server, NAME, Attester("sample", "", sample_evidence))
            old = Attester("tpm", "", lambda digest: shown)
            with pytest.raises(KeyNotReleased, match="attest: the broker refused: AttestationError"):
                fetch(server, NAME, old)
            with guest.session(DEVICE) as ask:  # another boot loader
                assert ask(extend_command(4, b"evil"))[6:10] == bytes(4)
            with pytest.raises(KeyNotReleased, match="attest: the broker refused: AttestationError"):
                fetch(server, NAME, attester)
    why = [str(line.get("why")) for line in audited(broker.config) if line["verdict"] == "refused"]
    assert [word in text for word, text in zip(
        ("the policy asks for tpm", "tpm.freshness", "tpm.measurement"), why, strict=True)] == [True] * 3, why


def test_a_tpm_that_nobody_enrolled_is_known_by_its_makers_certificate(tmp_path: Path) -> None:
    """Real TPM code, certified as libvirt has it certified: by swtpm_setup."""
    roots, state = tmp_path / "roots", tmp_path / "tpm"
    roots.mkdir()
    state.mkdir()
    maker = certified(tmp_path, state)
    with swtpm(state) as guest, swtpm_of_nobody(tmp_path) as other:
        attester, stranger = (find_attester(None, allow_unconfidential=True, reports=TsmReports(each))
                              for each in (guest, other))
        register = attester.primary(bytes(48))["pcrs"]["sha256"]["4"]
        write_reference(tmp_path, tpm={"pcrs": {"sha256": {4: register}}})
        broker = Broker(tmp_path, policies={NAME: {"tee": ["tpm"], "reference": "tpm.yaml"}}, roots="roots")
        (roots / "tpm-maker.pem").write_bytes(maker)
        with broker.running():
            server = HttpServer(broker.url, broker.ca)
            assert fetch(server, NAME, attester) == SECRET
            for liar in (stranger, replace(stranger, introduction=attester.introduction),
                         replace(stranger, introduction=attester.introduction, responded=attester.responded)):
                with pytest.raises(KeyNotReleased):
                    fetch(server, NAME, liar)


def certified(directory: Path, state: Path) -> bytes:
    """A TPM with a certificate of an own CA of swtpm_localca; that CA."""
    ca = directory / "localca"
    ca.mkdir()
    (directory / "ca.conf").write_text("".join(f"{name} = {ca}/{file}\n" for name, file in (
        ("statedir", ""), ("signingkey", "signkey.pem"), ("issuercert", "issuercert.pem"), ("certserial", "serial"))))
    (directory / "options").write_text("--platform-manufacturer m --platform-version 1 --platform-model m\n")
    (directory / "setup.conf").write_text(
        f"create_certs_tool = /usr/bin/swtpm_localca\ncreate_certs_tool_config = {directory}/ca.conf\n"
        f"create_certs_tool_options = {directory}/options\nactive_pcr_banks = sha256\n")
    subprocess.run(["swtpm_setup", "--tpm2", "--tpmstate", state, "--createek", "--create-ek-cert", "--config",
                    directory / "setup.conf"], check=True, capture_output=True, timeout=60)
    return b"".join((ca / name).read_bytes() for name in ("issuercert.pem", "swtpm-localca-rootca-cert.pem"))


def swtpm_of_nobody(directory: Path) -> contextlib.AbstractContextManager[FakeGuest]:
    """One without any certificate."""
    (directory / "nobody").mkdir()
    return swtpm(directory / "nobody")


def extend_command(register: int, event: bytes) -> bytes:
    """TPM2_PCR_Extend of the SHA-256 bank."""
    digests = (1).to_bytes(4) + SHA256.to_bytes(2) + hashlib.sha256(event).digest()
    return command(0x182, register.to_bytes(4), EMPTY_PASSWORD + digests)


def curl(broker: Broker, path: str, *words: str) -> tuple[int, dict[str, str]]:
    done = subprocess.run(["curl", "-sS", "-w", "\n%{http_code}", *words, f"{broker.url}{path}"], capture_output=True,
                          text=True, timeout=60, check=True)
    body, _, status = done.stdout.rpartition("\n")
    return int(status), json.loads(body)


@pytest.mark.parametrize(("path", "words", "status", "kind"), [
    ("/kbs/v0/resource/demo/model/key", (), 401, "TokenNotFound"),
    ("/kbs/v0/resource/demo/model/key", ("-H", "Authorization: Bearer e30.e30."), 401, "TokenNotFound"),
    ("/kbs/v0/resource/demo/model/key", ("-H", f"Cookie: kbs-session-id={'0' * 32}"), 401, "TokenNotFound"),
    ("/kbs/v0/resource/demo/model", (), 404, "InvalidRequestPath"),
    ("/kbs/v0/resource/demo/model/key?x=1", (), 404, "InvalidRequestPath"),
    ("/kbs/v0/pkcs11/a/b/c", (), 404, "PluginNotFound"), ("/", (), 404, "InvalidRequestPath"),
    ("/kbs/v0/resource-policy", ("-d", "{}"), 404, "InvalidRequestPath"),
    ("/kbs/v0/auth", ("-d", "{}"), 401, "AttestationError"), ("/kbs/v0/auth", ("-d", "["), 401, "SerdeError"),
    ("/kbs/v0/attest", ("-d", "{}"), 401, "TokenNotFound"),
    ("/kbs/v0/auth", ("-d", "{}", "-H", "Content-Encoding: gzip"), 415, "SerdeError"),
])
def test_what_is_refused_is_refused_in_trustees_words(plain: Broker, path: str, words: tuple[str, ...], status: int,
                                                      kind: str) -> None:
    found, body = curl(plain, path, "--path-as-is", *words)
    assert (found, body["type"]) == (status, f"https://github.com/confidential-containers/kbs/errors/{kind}")
    assert set(body) == {"type", "detail"}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One without TLS, which takes whatever comes."""
    broker = Broker(tmp_path_factory.mktemp("broker"), tls=False, requests_per_minute=1000)
    with broker.running():
        yield broker


def test_the_health_of_the_broker_is_no_secret(plain: Broker) -> None:
    assert curl(plain, "/healthz") == (200, {"status": "ok"})


def test_a_body_has_an_end(plain: Broker, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"[" + b"0," * (2 << 20) + b"0]")
    assert curl(plain, "/kbs/v0/auth", "--data-binary", f"@{tmp_path / 'large'}")[0] == 413
    sample = Attester("sample", "", sample_evidence)
    assert fetch(HttpServer(plain.url), NAME, sample) == SECRET


def test_an_address_that_asks_too_often_is_told_to_wait(tmp_path: Path) -> None:
    broker = Broker(tmp_path, tls=False, requests_per_minute=1)
    with broker.running():
        found = [curl(broker, "/kbs/v0/auth", "-d", "{}")[0] for _ in range(8)]
    assert found == [401] + [429] * 7
    assert [line.get("error") for line in audited(broker.config)].count("RateLimited") == 1


def test_an_ordinary_user_can_run_it() -> None:
    """In a directory of that user's own: pytest's are root's alone."""
    if os.geteuid():
        pytest.skip("only root can be another user")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        broker = Broker(directory, tls=False)
        for path in (directory, *directory.iterdir()):
            os.chown(path, 65534, 65534)
        with broker.running(user=65534):
            assert read_key(broker.source(), print) == SECRET


def test_a_peer_that_begins_and_waits_holds_nobody_up(tmp_path: Path) -> None:
    """A handshake that does not come, and a request that does not end."""
    broker = Broker(tmp_path)
    with broker.running(), contextlib.ExitStack() as held:
        for _ in range(20):
            held.enter_context(socket.create_connection(("127.0.0.1", broker.port)))
        slow = held.enter_context(trusting(tmp_path / "ca").wrap_socket(
            socket.create_connection(("127.0.0.1", broker.port)), server_hostname="localhost"))
        slow.sendall(b"POST /kbs/v0/auth HTTP/1.1\r\nContent-Length: 100\r\n\r\n{")
        began = time.monotonic()
        assert read_key(broker.source(), print) == SECRET
        assert time.monotonic() - began < 20
        assert isinstance(slow, ssl.SSLSocket)
